"""Filter, Sample, Rate and Split: fewer records, or smaller ones."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

from penstock.identity import part_numbers
from penstock.record import Record
from penstock.validators import at_least, positive


@attrs.define(kw_only=True)
class Filter:
    """Pass on records whose channel, coordinates and metadata match; the others are discarded.

    Attributes:
        channels: Patterns as for file names ("cam*"); empty: all.
        coords: Coordinates that a record must have, with these values.
        metadata: Metadata that a record must have, with these values.
    """

    channels: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    coords: Mapping[str, int | str] = attrs.field(factory=dict)
    metadata: Mapping[str, Any] = attrs.field(factory=dict)

    def __call__(self, record: Record) -> Record | None:
        """Return the record if it matches."""
        if self.channels and not any(fnmatch.fnmatchcase(record.channel, pattern) for pattern in self.channels):
            return None
        if self.coords and not record.coords.matches(self.coords):
            return None
        absent = object()
        if any(record.metadata.get(key, absent) != value for key, value in self.metadata.items()):
            return None
        return record


@attrs.define(kw_only=True)
class Sample:
    """Pass on every n-th record of each channel, beginning with the first; the others are discarded.

    Attributes:
        every: The n of every n-th: 10 passes on one record of ten.
    """

    every: int = attrs.field(validator=at_least(1))
    _seen: Counter[str] = attrs.field(factory=Counter, init=False, repr=False, eq=False)

    def __call__(self, record: Record) -> Record | None:
        """Return the record if it is the n-th."""
        number = self._seen[record.channel]
        self._seen[record.channel] += 1
        return None if number % self.every else record


@attrs.define(kw_only=True)
class Rate:
    """Limit the records of each channel per second, by their `time_ns`; the others are discarded.

    Attributes:
        per_s: The most records per second.
    """

    per_s: float = attrs.field(validator=positive)
    _due_ns: dict[str, float] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    def __call__(self, record: Record) -> Record | None:
        """Return the record if the last one that passed is long enough ago; a clock that goes back starts again."""
        due = self._due_ns.get(record.channel)
        step = 1e9 / self.per_s
        if due is not None and due - step <= record.time_ns < due:
            return None
        behind = due is None or record.time_ns - due >= step or record.time_ns < due
        self._due_ns[record.channel] = (record.time_ns if behind or due is None else due) + step
        return record


@attrs.define(kw_only=True)
class Split:
    """Return each part of an array or list, along the first axis, as a separate record.

    Its `seq` is computed from that of the whole and the index of the part (see penstock.identity); its coordinates
    have the index of the part under `axis`. A single part keeps the `seq` of the whole.

    Attributes:
        axis: The name of the coordinate.
    """

    axis: str = "part"

    def __call__(self, record: Record) -> list[Record]:
        """Return the parts; none for an empty array. Raises TypeError for data that have no parts."""
        if isinstance(record.data, (str, bytes, Mapping)) or not hasattr(record.data, "__len__"):
            raise TypeError(f"data of type {type(record.data).__name__} cannot be split: pass an array or a list")
        count = len(record.data)
        numbers = part_numbers(record.channel, record.seq, count) if count > 1 else (record.seq,) * count
        return [
            record.replace(data=part, seq=number, coords=type(record.coords)({**record.coords, self.axis: index}))
            for index, (part, number) in enumerate(zip(record.data, numbers, strict=True))
        ]
