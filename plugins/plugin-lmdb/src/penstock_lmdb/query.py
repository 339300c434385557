"""Queries: keys in order, by prefix, time and coordinates, found by ordered keys if the file has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs

from penstock.codec import decode
from penstock.coords import DataCoordinates
from penstock.coords.coordinates import axis_name, axis_value
from penstock.errors import CodecError, ConfigError, CoordinatesError
from penstock.short_text import short
from penstock_lmdb.environment import Environment, Transaction
from penstock_lmdb.index import Index, axis_key, axis_prefix, is_exact, time_key, value_key
from penstock_lmdb.naming import lookup

Order = Literal["key", "time"]
_AT_ONCE = 1000
_LIMIT = 1 << 63
_LAST = b"\xff" * 512


@attrs.frozen
class Query:
    """The conditions that records must meet.

    Attributes:
        exact: Axes with their required value.
        ranges: Axes with the slice that must contain their value: from start on, and before stop; None is open.
        prefix: Text that the key begins with.
        from_ns: Earliest time in nanoseconds.
        to_ns: The end of the times in nanoseconds, exclusive.
    """

    exact: DataCoordinates
    ranges: Mapping[str, slice]
    prefix: bytes
    from_ns: int | None
    to_ns: int | None

    @classmethod
    def of(cls, coords: Mapping[str, Any], prefix: str, from_ns: int | None, to_ns: int | None) -> Query:
        """Check the values. Raises CoordinatesError, or ConfigError for a prefix or a time that cannot be one."""
        for name, value in (("from_ns", from_ns), ("to_ns", to_ns)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise ConfigError(f"{name}={short(value)}: must be a time in whole nanoseconds, or None")
        if not isinstance(prefix, str):
            raise ConfigError(f"prefix={prefix!r}: must be a str")
        ranges = {axis_name(axis): _checked(axis, value) for axis, value in coords.items() if isinstance(value, slice)}
        exact = DataCoordinates({axis: value for axis, value in coords.items() if not isinstance(value, slice)})
        return cls(exact, ranges, _prefix(prefix), _within(from_ns), _within(to_ns))

    @property
    def needs_record(self) -> bool:
        """Whether the record must be read, since its key is not enough."""
        return bool(self.exact or self.ranges or self.from_ns is not None or self.to_ns is not None)

    def matches(self, value: memoryview) -> bool:
        """Return whether the record of these bytes meets the conditions, except those of its key."""
        try:
            record = decode(value)
        except CodecError:
            return False  # `get` reports the problem
        if not (self.from_ns is None or self.from_ns <= record.time_ns):
            return False
        if not (self.to_ns is None or record.time_ns < self.to_ns):
            return False
        coords = record.coords
        return coords.matches(self.exact) and all(
            axis in coords and _lies_in(coords[axis], wanted) for axis, wanted in self.ranges.items()
        )


@attrs.frozen
class Reader:
    """Answer queries. It reads in steps: concurrent changes may or may not be included, but no key comes twice."""

    environment: Environment

    def keys(self, query: Query, order: Order) -> Iterator[bytes]:
        """Yield the keys, in the order of their bytes, or of time and then of their bytes."""
        if not Index(self.environment.databases).is_there:  # layout 1
            yield from self._pages(query, "key")  # which has no times in order
        elif query.exact or query.ranges:
            yield from self._by_axes(query, order)
        elif order == "time":
            yield from self._pages(query, "time")
        elif query.from_ns is not None or query.to_ns is not None:
            yield from sorted(self._pages(query, "time"))
        else:
            yield from self._pages(query, "key")

    def _pages(self, query: Query, order: Order) -> Iterator[bytes]:
        databases = self.environment.databases

        def page(transaction: Transaction) -> tuple[list[bytes], bytes]:
            found: list[bytes] = []
            place = b""
            for count, (place, key) in enumerate(follows(databases, transaction, query, order, after)):
                if order == "time" or not query.needs_record or query.matches(transaction.get(key)):
                    found.append(key)
                if count >= _AT_ONCE:
                    return found, place
            return found, b""

        after = b""
        while True:
            found, after = self.environment.read(page)
            yield from found
            if not after:
                return

    def _by_axes(self, query: Query, order: Order) -> Iterator[bytes]:
        found = self.environment.read(lambda transaction: self._select(transaction, query, order))
        yield from (key for _, key in sorted(found))

    def _select(self, transaction: Transaction, query: Query, order: Order) -> list[tuple[int, bytes]]:
        """Return the keys that match all, each with its time if that is their order."""
        cursor = transaction.cursor(self.environment.databases["axes"])
        wanted = {axis_key(axis, value) for axis, value in query.exact.items()}
        rarest, count = b"", 0
        for each in wanted:
            if not cursor.set_key(each):
                return []
            if not rarest or cursor.count() < count:
                rarest, count = each, cursor.count()
        if rarest:
            cursor.set_key(rarest)
            candidates: Iterator[bytes] = (bytes(key) for key in cursor.iternext_dup())
        else:
            candidates = _in_range(cursor, *next(iter(query.ranges.items())))
        others = transaction.cursor(self.environment.databases["axes"])
        only_range = not wanted and len(query.ranges) == 1 and _is_exact_range(*next(iter(query.ranges.items())))
        looked_at = (
            not (only_range or (not query.ranges and all(is_exact(*item) for item in query.exact.items())))
            or query.from_ns is not None
            or query.to_ns is not None
            or order == "time"
        )
        found: list[tuple[int, bytes]] = []
        for key in candidates:
            if not key.startswith(query.prefix):
                continue
            if not all(each == rarest or others.set_key_dup(each, key) for each in wanted):
                continue
            time = 0
            if looked_at:
                value = transaction.get(key)
                if value is None or not query.matches(value):
                    continue
                time = decode(value).time_ns if order == "time" else 0
            found.append((time, key))
        return found


def _behind(cursor: Any, key: bytes, value: bytes) -> bool:
    """Move to the entry after one of the values of a key; both may have been removed since."""
    if cursor.set_range_dup(key, value):
        return bytes(cursor.value()) != value or bool(cursor.next())
    if not cursor.set_range(key):
        return False
    return bytes(cursor.key()) != key or bool(cursor.next_nodup())


def _in_range(cursor: Any, axis: str, wanted: slice) -> Iterator[bytes]:
    """Yield the keys of the records whose coordinate is in a slice; long text may be just outside."""
    prefix = axis_prefix(axis)
    first = prefix if wanted.start is None else axis_key(axis, wanted.start)
    end = prefix[:-1] + b"\x01" if wanted.stop is None else axis_key(axis, wanted.stop)
    texts = wanted.start is not None and isinstance(wanted.start, str)
    inclusive = wanted.stop is not None and not is_exact(axis, wanted.stop)
    numbers_end = prefix + value_key("")
    there = cursor.set_range(first)
    while there:
        key = bytes(cursor.key())
        if not (key < end or (inclusive and key == end)) or not key.startswith(prefix):
            return
        if wanted.start is None and isinstance(wanted.stop, str) and key < numbers_end:
            there = cursor.set_range(numbers_end)
            continue
        if not texts and wanted.start is not None and key >= numbers_end:
            return
        yield from (bytes(each) for each in cursor.iternext_dup())
        there = cursor.set_range(key + b"\0")


def _is_exact_range(axis: str, wanted: slice) -> bool:
    return all(is_exact(axis, end) for end in (wanted.start, wanted.stop))


def _lies_in(value: int | str, wanted: slice) -> bool:
    for end in (wanted.start, wanted.stop):
        if end is not None and type(end) is not type(value):
            return False
    return (wanted.start is None or wanted.start <= value) and (wanted.stop is None or value < wanted.stop)


def _prefix(prefix: str) -> bytes:
    """Return what keys begin with, as bytes; longer than any key if none can begin so."""
    found = lookup(prefix)
    return found if found or not prefix else _LAST


def _within(time_ns: int | None) -> int | None:
    """Return a time that fits into 64 bits and selects the same records."""
    return None if time_ns is None else max(-_LIMIT, min(time_ns, _LIMIT - 1))


def _checked(axis: str, value: slice) -> slice:
    if value.step is not None:
        raise CoordinatesError(f"axis {axis!r}: {short(value)} has a step; use a start and a stop only")
    ends = [None if end is None else axis_value(axis, end) for end in (value.start, value.stop)]
    if None not in ends and type(ends[0]) is not type(ends[1]):
        raise CoordinatesError(f"axis {axis!r}: {short(value)} begins with an int and ends with a str, or the reverse")
    return slice(*ends)


def follows(
    databases: Mapping[str, Any], transaction: Transaction, query: Query, order: Order, after: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys after a place, each with its own place, by prefix and time only.

    A place is a key, or in the order of time the bytes of the time and the key.
    """
    if order == "time":
        first = b"" if query.from_ns is None else time_key(query.from_ns)
        end = _LAST if query.to_ns is None else time_key(query.to_ns)
        cursor = transaction.cursor(databases["times"])
        there = _behind(cursor, after[:8], after[8:]) if after and after[:8] >= first else _at(cursor, first)
        while there and (time := bytes(cursor.key())) < end:
            key = bytes(cursor.value())
            if key.startswith(query.prefix):
                yield time + key, key
            there = cursor.next()
        return
    cursor = transaction.cursor(databases["records"])
    there = _at(cursor, max(after, query.prefix))
    if there and after and bytes(cursor.key()) == after:
        there = cursor.next()
    while there and (key := bytes(cursor.key())).startswith(query.prefix):
        yield key, key
        there = cursor.next()


def _at(cursor: Any, key: bytes) -> bool:
    return bool(cursor.set_range(key) if key else cursor.first())
