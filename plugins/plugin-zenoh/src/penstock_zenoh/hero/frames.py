"""The counting key in an event's metadata: gaps, and the number of the record in its channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from penstock_zenoh.hero.acquisitions import count_of


@attrs.define(eq=False)
class Frames:
    """The count of one event of one HERO.

    Attributes:
        key: The metadata key with the count, or None.
        base: Offset from that count to the record's `seq`, so that `seq` continues after a restart of the count.
        next_seq: The `seq` of a record without a count.
        last: The last count.
        restarts: Number of restarts of the count.
    """

    key: str | None
    base: int = 0
    next_seq: int = 0
    last: int | None = None
    restarts: int = 0

    def take(self, metadata: Mapping[str, Any]) -> tuple[int, int | None, int, bool]:
        """Return (seq, count, number of records missing before it, whether it continues the last one)."""
        number = None if self.key is None else count_of(metadata.get(self.key))
        if number is None:
            self.next_seq += 1
            return self.next_seq - 1, None, 0, True
        last, missing, continues = self.last, 0, True
        if last is not None and number > last:
            missing = number - last - 1
            continues = not missing
        elif last is not None:
            self.restarts += 1
            continues = False
        if self.base + number < self.next_seq:  # a count that restarts, or records without a number in between
            self.base = self.next_seq - number
        self.last = number
        seq = self.base + number
        if seq >= 1 << 63:
            self.base, seq = self.next_seq - number, self.next_seq
        self.next_seq = seq + 1
        return seq, number, missing, continues

    def take_following(self, numbers: Sequence[Any]) -> range | None:
        """Return the `seq` of events whose counts all continue the last one, or None: `take` counts each then.

        Args:
            numbers: Their counts; without a key, None for each.
        """
        count = len(numbers)
        if self.key is None:
            self.next_seq += count
            return range(self.next_seq - count, self.next_seq)
        first = numbers[0]
        if set(map(type, numbers)) != {int} or not 0 <= first < 1 << 61:
            return None
        following = range(first, first + count)
        if numbers != [*following] or (self.last is not None and first != self.last + 1):
            return None
        if self.base + first < self.next_seq or self.base + following.stop > 1 << 62:
            return None
        self.last = following[-1]
        self.next_seq = self.base + following.stop
        return range(self.base + first, self.next_seq)

    def begin(self) -> None:
        """Begin a new count: an acquisition has started."""
        self.last = None
