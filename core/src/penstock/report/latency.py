"""Latency: a histogram with percentiles accurate to 12.5 %; adding costs a few integer operations."""

from __future__ import annotations

_SUB_BITS = 3


class Latency:
    """Count durations in buckets that grow by an eighth of a power of two."""

    __slots__ = ("_buckets", "count", "max_ns")

    def __init__(self) -> None:
        self._buckets = [0] * (64 << _SUB_BITS)
        self.count = 0
        self.max_ns = 0

    def add(self, duration_ns: int, count: int = 1) -> None:
        """Count a duration in nanoseconds, `count` times."""
        shift = duration_ns.bit_length() - _SUB_BITS - 1
        index = duration_ns if shift <= 0 else ((shift + 1) << _SUB_BITS) | ((duration_ns >> shift) & 7)
        self._buckets[index] += count
        self.count += count
        if duration_ns > self.max_ns:
            self.max_ns = duration_ns

    def percentile_s(self, percent: float) -> float | None:
        """Return the duration in seconds that `percent` of all do not exceed; None if there are none."""
        if not self.count:
            return None
        wanted = self.count * percent / 100
        seen = 0
        for index, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                return min(_upper_ns(index), self.max_ns) / 1e9
        return self.max_ns / 1e9

    def merge(self, other: Latency) -> None:
        """Add the counts of another histogram."""
        for index, count in enumerate(other._buckets):
            self._buckets[index] += count
        self.count += other.count
        self.max_ns = max(self.max_ns, other.max_ns)


def _upper_ns(index: int) -> int:
    group, part = index >> _SUB_BITS, index & 7
    if group <= 1:
        return index
    return ((8 + part + 1) << (group - 1)) - 1
