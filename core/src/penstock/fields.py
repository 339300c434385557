"""The types of a record's own fields: checked when a record enters a run or is encoded; converted or refused."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from penstock.coords import DataCoordinates
from penstock.errors import CoordinatesError, RecordFieldError
from penstock.read_only import ReadOnlyDict
from penstock.record import Record

_NONE = type(None)
_NOWHERE = Record(None).coords
_MAPPINGS = frozenset((dict, ReadOnlyDict, MappingProxyType))
_FEW_CHANNELS: Final = 4
"""The most channels in a list of which each is looked for: with more of them one pass over the list is faster."""


def is_exact(record: Record) -> bool:
    """Return True if each field has just the type that `Record` promises; quick, for every record of a run."""
    return (
        type(record.seq) is int
        and type(record.time_ns) is int
        and type(record.channel) is str
        and type(record.discontinuity) is bool
        and type(record.coords) is DataCoordinates
        and type(record.metadata) in _MAPPINGS
        and type(record.parent) in (Record, _NONE)
    )


def shares_all_but_data(result: Record, record: Record) -> bool:
    """Return whether a result shares all fields but its data with the record that it was made of."""
    return (
        result.metadata is record.metadata
        and result.seq is record.seq
        and result.time_ns is record.time_ns
        and result.channel is record.channel
        and result.coords is record.coords
        and result.parent is record.parent
        and result.discontinuity is record.discontinuity
    )


class ExactRecords(list[Record]):
    """Records made by penstock itself, so that it is enough to look at the fields of one of them."""

    __slots__ = ()


class OneChannel(list[Record]):
    """Records that are known to have the same channel, so that it is enough to read that of one of them."""

    __slots__ = ()


class SeveralChannels(list[Record]):
    """Records of several channels, counted once for all that count or name them.

    Attributes:
        counts: How many there are of each channel.
        firsts, lasts: The numbers of the first and the last of each channel.
    """

    __slots__ = ("counts", "firsts", "lasts")
    counts: Mapping[str, int]
    firsts: Mapping[str, int]
    lasts: Mapping[str, int]

    @classmethod
    def of(cls, records: list[Record]) -> SeveralChannels:
        """Count these records."""
        given = cls(records)
        channels = [record.channel for record in records]
        given.counts = counts = Counter(channels)
        if len(counts) <= _FEW_CHANNELS:
            given.firsts = {channel: records[channels.index(channel)].seq for channel in counts}
            channels.reverse()
            given.lasts = {channel: records[-1 - channels.index(channel)].seq for channel in counts}
        else:
            given.firsts = {record.channel: record.seq for record in reversed(records)}
            given.lasts = {record.channel: record.seq for record in records}
        return given


def like(records: Sequence[Record], results: list[Record]) -> list[Record]:
    """Return results that have the names of these records in a list that knows as much about their channels.

    Neither list may be changed afterwards.
    """
    if type(records) is OneChannel:
        return results if type(results) is OneChannel else OneChannel(results)
    if type(records) is not SeveralChannels:
        return results
    given = SeveralChannels(results)
    given.counts, given.firsts, given.lasts = records.counts, records.firsts, records.lasts
    return given


def channels_of(records: Sequence[Record]) -> set[str]:
    """Return the channels of these records, of which there is at least one."""
    if type(records) is OneChannel:
        return {records[0].channel}
    if type(records) is SeveralChannels:
        return set(records.counts)
    return {record.channel for record in records}


def part_of(records: Sequence[Record], start: int, end: int) -> Sequence[Record]:
    """Return a part of these records, in a list that is known to have one channel if theirs is."""
    part = records[start:end]
    return OneChannel(part) if type(records) is OneChannel else part


def joined(parts: Sequence[Sequence[Record]]) -> Sequence[Record]:
    """Return the records of several lists in one, which is known to have one channel if theirs is the same."""
    if len(parts) == 1:
        return parts[0]
    channel = parts[0][0].channel if type(parts[0]) is OneChannel else None
    is_one = channel is not None and all(type(each) is OneChannel and each[0].channel == channel for each in parts)
    records: list[Record] = OneChannel() if is_one else []
    for each in parts:
        records.extend(each)
    return records


def all_exact(records: Sequence[Record]) -> bool:
    """Return True if each field of all these records has just the type that `Record` promises."""
    return exact_channels(records) > 0


def exact_channels(records: Sequence[Record]) -> int:
    """Return 0 if a field of one of these records has another type than `Record` promises; 1 if all have one channel.

    It is 2 if they may have several channels.
    """
    channel: Any = records[0].channel if records else ""
    coords: Any = _NOWHERE
    first, count = channel, 1
    if type(channel) is not str:
        return 0
    kind_of, whole, plain = type, int, dict
    for record in records:  # the hot path: one loop, and objects that many records share are checked once
        if (
            kind_of(record.seq) is not whole
            or kind_of(record.time_ns) is not whole
            or kind_of(record.metadata) is not plain
            or record.parent is not None
            or record.discontinuity is not False
        ) and not is_exact(record):
            return 0
        if record.channel is not channel:
            channel = record.channel
            if kind_of(channel) is not str:
                return 0
            if channel != first:
                count = 2
        if record.coords is not coords:
            coords = record.coords
            if kind_of(coords) is not DataCoordinates:
                return 0
    return count


def all_derived(results: Sequence[Record], records: Sequence[Record]) -> bool:
    """Return whether each result has the name of its record, and fields of the types that `Record` promises.

    It checks only the objects that are not those of the record, whose fields have these types. False may also mean that
    a closer look is needed: this is for the results of most processors, with other data, metadata or coordinates.
    """
    kind_of, plain = type, dict
    for result, record in zip(results, records, strict=True):  # in one loop: this is the hot path
        if (
            result.seq is not record.seq
            or result.channel is not record.channel
            or result.time_ns is not record.time_ns
            or result.parent is not record.parent
            or result.discontinuity is not record.discontinuity
            or (result.metadata is not record.metadata and kind_of(result.metadata) is not plain)
            or (result.coords is not record.coords and kind_of(result.coords) is not DataCoordinates)
        ):
            return False
    return True


def exact(record: Record) -> Record:
    """Return the record with fields of the types that `Record` promises, or raise RecordFieldError.

    Only lossless conversions are made: integers of numpy and whole floats for `seq` and `time_ns`, a subclass of str
    for `channel`, 0 and 1 for `discontinuity`, a mapping for `coords`, None for an empty `coords` or `metadata`.
    """
    changes: dict[str, Any] = {}
    for name, convert in _CONVERTERS.items():
        value = getattr(record, name)
        try:
            changes[name] = convert(value)
        except Exception as error:  # the value may be any object, and may raise anything
            raise RecordFieldError(_message(record, name, value, error)) from error
    return record.replace(**changes)


def readable(record: Record) -> tuple[Record, dict[str, Any]]:
    """Return the record with every invalid field replaced by its default, and the invalid values by name."""
    changes: dict[str, Any] = {}
    odd: dict[str, Any] = {}
    for name, convert in _CONVERTERS.items():
        value = getattr(record, name)
        try:
            changes[name] = convert(value)
            if name in ("seq", "time_ns") and not -(1 << 63) <= changes[name] < 1 << 63:
                raise OverflowError("it does not fit into 64 bits")
            if name == "channel":
                changes[name].encode()
        except Exception:  # as in exact
            odd[name] = value
            changes[name] = _DEFAULTS[name]
    return record.replace(**changes), odd


def _message(record: Record, name: str, value: Any, error: Exception) -> str:
    seq, channel = record.seq, record.channel
    where = f"record {seq}" if type(seq) is int else "a record"
    where += f" of channel {channel!r}" if type(channel) is str else ""
    try:
        shown = f"{value!r:.80}"
    except BaseException:
        shown = "a value that cannot be printed"
    kind = type(value).__name__
    return f"{where}: {name}={shown} ({kind}) is wrong: it must be {_WANTED[name]}" + _reason(error)


def _reason(error: Exception) -> str:
    return f"; {error}" if isinstance(error, CoordinatesError) else ""


def _int(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():  # time.time() * 1e9 is one
        return int(value)
    if isinstance(value, bool):
        raise TypeError("a bool is not a number")
    return int.__pos__(operator.index(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return str.__str__(value)


def _bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    if operator.index(bool(value)) == value and type(value).__name__ in ("int", "bool", "bool_"):
        return bool(value)
    raise TypeError("neither True nor False")


def _coords(value: Any) -> DataCoordinates:
    return value if type(value) is DataCoordinates else DataCoordinates(value)


def _metadata(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError("not a mapping")
    return value if type(value) in _MAPPINGS else dict(value)


def _parent(value: Any) -> Record | None:
    if value is None:
        return None
    if not isinstance(value, Record):
        raise TypeError("not a record")
    return value if is_exact(value) else exact(value)


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "channel": _text,
    "seq": _int,
    "time_ns": _int,
    "discontinuity": _bool,
    "coords": _coords,
    "metadata": _metadata,
    "parent": _parent,
}
_DEFAULTS: dict[str, Any] = {
    "channel": "",
    "seq": 0,
    "time_ns": 0,
    "discontinuity": False,
    "coords": _NOWHERE,
    "metadata": {},
    "parent": None,
}
_WANTED = {
    "channel": "a str",
    "seq": "an int",
    "time_ns": "an int, nanoseconds since 1970",
    "discontinuity": "True or False",
    "coords": "DataCoordinates, or a mapping of axes to int or str",
    "metadata": "a mapping",
    "parent": "a Record or None",
}
