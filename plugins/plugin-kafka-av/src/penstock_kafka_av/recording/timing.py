"""Clock: times for a file's packets, whose dts must increase."""

from __future__ import annotations

from fractions import Fraction

import attrs

_REORDERED_S = Fraction(1, 5)
"""Seconds by which dts precedes pts if only the pts is known and frames may be reordered."""


@attrs.define(eq=False)
class Clock:
    """Compute the times of one file's packets, in units since its first presentation time.

    Attributes:
        unit: Seconds per unit.
        reorders: Whether display order may differ from decoding order.
    """

    unit: Fraction
    reorders: bool
    _zero: int | None = None
    _last: int | None = None  # dts
    _period: int = 0

    def place(self, pts: int, dts: int | None) -> tuple[int, int, bool]:
        """Return pts and dts of the next packet, and whether its pts had to be raised."""
        if self._zero is None:
            self._zero = pts
        pts -= self._zero
        if dts is not None:
            dts = min(dts - self._zero, pts)
        elif self.reorders:
            dts = pts - max(2, round(_REORDERED_S / self.unit))
        else:
            dts = pts
        if self._last is not None and dts <= self._last:
            dts = self._last + 1
        elif self._last is not None:
            self._period = dts - self._last
        self._last = dts
        return max(pts, dts), dts, dts > pts

    def duration(self, declared: int) -> int:
        """Return the duration of a packet: the record's if it is above 0, else that of the previous packet."""
        return declared if declared > 0 else max(1, self._period)
