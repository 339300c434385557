"""SeqRuns: the received numbers of a channel, in little memory as long as few are missing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import lt
from typing import Final

_RUNS: Final = 100_000


class SeqRuns:
    """A set of whole numbers, kept as runs without a gap.

    Above 100,000 runs it adds no more isolated numbers, so such a number is not found later.
    """

    def __init__(self) -> None:
        self._first: list[int] = []
        self._end: list[int] = []

    def add(self, number: int) -> bool:
        """Add a number; return False if it is present."""
        place = bisect_right(self._first, number)
        if place and number < self._end[place - 1]:
            return False
        self.cover(number, number + 1)
        return True

    def first_common(self, first: int, end: int) -> int | None:
        """Return the lowest number in `range(first, end)` that is present, or None."""
        place = bisect_right(self._end, first)
        if place == len(self._first) or self._first[place] >= end:
            return None
        return max(first, self._first[place])

    def cover_each(self, firsts: Sequence[int], ends: Sequence[int]) -> None:
        """Add all numbers of several ranges, at least one."""
        are_new_runs = not self._end or self._end[-1] < firsts[0]
        if are_new_runs and len(self._first) + len(firsts) <= _RUNS and all(map(lt, ends, firsts[1:])):
            self._first += firsts
            self._end += ends
            return
        for first, end in zip(firsts, ends, strict=True):
            self.cover(first, end)

    def cover(self, first: int, end: int) -> None:
        """Add all numbers in `range(first, end)`."""
        if self._end and first >= self._end[-1]:  # nearly always
            if first == self._end[-1]:
                self._end[-1] = end
            elif len(self._first) < _RUNS:
                self._first.append(first)
                self._end.append(end)
            return
        low = bisect_left(self._end, first)
        high = bisect_right(self._first, end)
        if low < high:
            first, end = min(first, self._first[low]), max(end, self._end[high - 1])
        elif len(self._first) >= _RUNS:
            return
        self._first[low:high] = [first]
        self._end[low:high] = [end]
