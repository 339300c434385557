"""Ordered keys beside the records: by time, and by each axis of their coordinates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from penstock.record import Record

_NOWHERE = Record(None).coords  # what records without coordinates share
_SIGN = 1 << 63
_LONGEST_TEXT = 400
_LONGEST_AXIS = 64
_NEGATIVE, _INT, _POSITIVE, _TEXT = b"\x01", b"\x02", b"\x03", b"\x08"


def time_key(time_ns: int) -> bytes:
    """Return the bytes of a time, which sort like the times."""
    return (time_ns + _SIGN).to_bytes(8, "big")


def value_key(value: int | str) -> bytes:
    """Return the bytes of a coordinate, which sort like the values, integers before text; long text is truncated."""
    if isinstance(value, str):
        return _TEXT + value.encode("utf-8", "surrogatepass")[:_LONGEST_TEXT]
    if -_SIGN <= value < _SIGN:
        return _INT + (value + _SIGN).to_bytes(8, "big")
    return _POSITIVE if value > 0 else _NEGATIVE  # which one of these, its record says


def is_exact(axis: str, value: int | str | None = None) -> bool:
    """Return whether no other axis, and no other value of it, has the same bytes."""
    if value is None or len(axis) > _LONGEST_AXIS // 4:
        return len(axis) <= _LONGEST_AXIS // 4
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT // 4
    return -_SIGN <= value < _SIGN


def axis_key(axis: str, value: int | str) -> bytes:
    """Return the bytes under which the keys of the records with this coordinate are."""
    return axis_prefix(axis) + value_key(value)


def axis_prefix(axis: str) -> bytes:
    """Return the common prefix of the bytes of all values of an axis; a long name is truncated."""
    return axis.encode()[:_LONGEST_AXIS] + b"\0"


@attrs.frozen
class Index:
    """Keep the ordered keys consistent with the records, in the same transaction.

    Attributes:
        databases: Those of the environment; without "times" and "axes" nothing is kept.
    """

    databases: Mapping[str, Any]

    @property
    def is_there(self) -> bool:
        """Whether the file has ordered keys; a file of layout 1 has none."""
        return self.databases["times"] is not None and self.databases["axes"] is not None

    def add(self, transaction: Any, entries: Iterable[tuple[bytes, int, Mapping[str, Any]]]) -> None:
        """Add records that were put: the key, the time in nanoseconds and the coordinates of each."""
        times: list[tuple[bytes, bytes]] = []
        axes: list[tuple[bytes, bytes]] = []
        for key, time_ns, coords in entries:
            times.append(((time_ns + _SIGN).to_bytes(8, "big"), key))
            if coords is not _NOWHERE and coords:
                axes.extend((axis_key(axis, value), key) for axis, value in coords.items())
        transaction.cursor(self.databases["times"]).putmulti(times)
        if axes:
            axes.sort()
            transaction.cursor(self.databases["axes"]).putmulti(axes)

    def remove(self, transaction: Any, key: bytes, record: Record) -> None:
        """Remove a record that is no longer under this key."""
        transaction.delete(time_key(record.time_ns), key, db=self.databases["times"])
        for axis, value in record.coords.items():
            transaction.delete(axis_key(axis, value), key, db=self.databases["axes"])
