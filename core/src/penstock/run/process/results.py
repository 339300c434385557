"""Results of a worker process: records that the run still holds are sent as numbers, without data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from penstock.fields import shares_all_but_data
from penstock.record import Record
from penstock.run.process.messages import Answer

_replace = msgspec.structs.replace

AS_SENT: Final = -1
_SMALL: Final = frozenset((bytes, str, int, float, bool, type(None)))
_TEXTS: Final = frozenset((bytes, str))
_SMALL_BYTES: Final = 4096


def pack_column(results: Sequence[Record], records: Sequence[Record]) -> bytes | None:
    """Return the data of results as bytes if they differ from these records only in their data; None otherwise.

    Only small data: then a result need not be sent as a record, which costs more than its data.
    """
    if len(results) != len(records):
        return None
    data = [result.data for result in results]
    kinds = set(map(type, data))
    if not kinds <= _SMALL:
        return None
    if not kinds.isdisjoint(_TEXTS) and any(type(each) in _TEXTS and len(each) > _SMALL_BYTES for each in data):
        return None
    if not all(map(shares_all_but_data, results, records)):
        return None
    try:
        return msgspec.msgpack.encode(data)
    except (OverflowError, UnicodeEncodeError):  # more than 64 bits, or a lone surrogate: needs the codec
        return None


def unpack_column(column: bytes, records: Iterable[Record]) -> list[Record]:
    """Return these records with the data of a column."""
    data = msgspec.msgpack.decode(column)
    return [_replace(record, data=each) for record, each in zip(records, data, strict=True)]


def pack_results(results: Sequence[Record], known: Mapping[int, Record]) -> tuple[dict[str, Any], list[Record]]:
    """Return keywords, and the records to send, for results of records that the run knows by these numbers.

    A result that is such a record is sent as its number. A result that shares the data, the parent, or the parent's
    parent of such a record is sent without them.
    """
    whole = {id(record): number for number, record in known.items()}
    data = {id(record.data): number for number, record in known.items() if record.data is not None}
    parents = {id(record.parent): number for number, record in known.items() if record.parent is not None}
    order: list[int] = []
    data_of: list[int] = []
    parent_of: list[int] = []
    sent: list[Record] = []
    for result in results:
        number = whole.get(id(result), AS_SENT)
        order.append(number)
        if number != AS_SENT:
            continue
        changes: dict[str, Any] = {}
        data_of.append(AS_SENT if result.data is None else data.get(id(result.data), AS_SENT))
        if data_of[-1] != AS_SENT:
            changes["data"] = None
        parent_of.append(_code_of(result.parent, whole, parents))
        if parent_of[-1] != AS_SENT:
            changes["parent"] = None
        sent.append(result.replace(**changes) if changes else result)
    return {"order": order, "data_of": data_of, "parent_of": parent_of}, sent


def unpack_results(answer: Answer, known: Mapping[int, Record]) -> Iterator[Record]:
    """Yield the results, except those that could not be sent."""
    words = answer.words
    came = dict(zip(answer.places, answer.records, strict=True))
    place = 0
    for number in words["order"]:
        if number != AS_SENT:
            yield known[number]
            continue
        record, data, parent = came.get(place), words["data_of"][place], words["parent_of"][place]
        place += 1
        if record is None:
            continue
        changes: dict[str, Any] = {}
        if data != AS_SENT:
            changes["data"] = known[data].data
        if parent != AS_SENT:
            changes["parent"] = known[parent] if parent >= 0 else known[-2 - parent].parent
        yield record.replace(**changes) if changes else record


def _code_of(parent: Record | None, whole: Mapping[int, int], parents: Mapping[int, int]) -> int:
    """Return the number of a parent; -2 - n for the parent of record n."""
    if parent is None:
        return AS_SENT
    number = whole.get(id(parent))
    if number is not None:
        return number
    number = parents.get(id(parent))
    return AS_SENT if number is None else -2 - number
