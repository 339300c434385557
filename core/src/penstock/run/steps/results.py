"""Results of a processor for a whole list: what they mean, where that is plain from their types alone.

Each is found in a few passes over the list; any other result is interpreted on its own (`penstock.user_function`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any

import attrs
import msgspec

from penstock.fields import OneChannel, all_exact
from penstock.record import Record

_replace = msgspec.structs.replace
_NOTHING: type = type(None)
_DATA = frozenset((int, float, complex, bool, str, bytes, dict))
"""Types of results that mean the data of one record, with arrays of numpy."""
_ONE_EACH = _DATA | {Record, _NOTHING}


def _is_among(found: set[type], known: frozenset[type]) -> bool:
    if found <= known:
        return True
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and found <= known | {numpy.ndarray}


def is_one_each(found: set[type]) -> bool:
    """Return whether results of these types mean one record each, or none: records, plain data, and None."""
    return _is_among(found, _ONE_EACH)


def without_empty(records: Sequence[Record], results: list[Any]) -> tuple[Sequence[Record], list[Any]]:
    """Return the records that have a result, and these results."""
    some = [record for record, result in zip(records, results, strict=True) if result is not None]
    left = [result for result in results if result is not None]
    return OneChannel(some) if type(records) is OneChannel else some, left


def as_records(records: Sequence[Record], results: list[Any]) -> list[Record]:
    """Return results that are records or plain data as records; data become those of a record like its parent."""
    return [
        result if type(result) is Record else _replace(record, data=result)
        for record, result in zip(records, results, strict=True)
    ]


@attrs.frozen
class Listed:
    """The results of records that have several, in order.

    Attributes:
        parents: The records that have results.
        counts: How many each of them has.
        records: All results, with fields of the types that `Record` promises.
        empty: The records that have none.
    """

    parents: Sequence[Record]
    counts: Sequence[int]
    records: list[Record]
    empty: Sequence[Record]


def listed(records: Sequence[Record], results: list[list[Any]]) -> Listed | None:
    """Return results that are lists of records and plain data; None if something else is in one of them."""
    found = set(map(type, chain.from_iterable(results)))
    if not found or not _is_among(found, _DATA | {Record}):
        return None
    counts = list(map(len, results))
    parents, empty = records, []
    if 0 in counts:
        empty = [record for record, count in zip(records, counts, strict=True) if not count]
        parents = [record for record, count in zip(records, counts, strict=True) if count]
        parents = OneChannel(parents) if type(records) is OneChannel else parents
        counts = [count for count in counts if count]
    if found == {Record}:
        given = list(chain.from_iterable(results))
        return Listed(parents, counts, given, empty) if all_exact(given) else None
    given = [
        item if type(item) is Record else _replace(record, data=item)
        for record, result in zip(records, results, strict=True)
        for item in result
    ]
    return Listed(parents, counts, given, empty) if Record not in found or all_exact(given) else None
