"""Clock: the times of a file's packets, which must rise whatever the records say."""

from __future__ import annotations

from fractions import Fraction

import attrs

_REORDERED_S = Fraction(1, 5)
"""How much later than decoded a picture is taken to be shown, where only the latter is known and order may change."""


@attrs.define(eq=False)
class Clock:
    """Put the packets of one file in time, in units of `unit` seconds since the first one is shown.

    Attributes:
        unit: Seconds.
        reorders: Whether packets may be shown in another order than they are decoded in.
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

    def duration(self, said: int) -> int:
        """Return how long a packet is shown: what its record says, else as long as the one before."""
        return said if said > 0 else max(1, self._period)
