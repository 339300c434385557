"""Runs: the numbers of records that are in a video already."""

from __future__ import annotations

from bisect import bisect_right

import attrs

_MOST_RUNS = 100_000


@attrs.define(eq=False)
class Runs:
    """A set of mostly consecutive numbers, kept as runs; beyond 100,000 runs, the lowest are forgotten."""

    _firsts: list[int] = attrs.field(factory=list)
    _lasts: list[int] = attrs.field(factory=list)

    def __contains__(self, seq: int) -> bool:
        lasts = self._lasts
        if not lasts or seq > lasts[-1]:
            return False
        at = bisect_right(self._firsts, seq) - 1
        return at >= 0 and seq <= lasts[at]

    def add(self, first: int, last: int) -> None:
        """Add all numbers from `first` to `last`."""
        firsts, lasts = self._firsts, self._lasts
        if lasts and first == lasts[-1] + 1:
            lasts[-1] = last
            return
        if not lasts or first > lasts[-1]:
            firsts.append(first)
            lasts.append(last)
            if len(firsts) > _MOST_RUNS:
                del firsts[: _MOST_RUNS // 10], lasts[: _MOST_RUNS // 10]
            return
        left = bisect_right(firsts, first)
        if left and lasts[left - 1] >= first - 1:
            left -= 1
        right = bisect_right(firsts, last + 1)
        if left < right:
            first, last = min(first, firsts[left]), max(last, lasts[right - 1])
        firsts[left:right], lasts[left:right] = [first], [last]
