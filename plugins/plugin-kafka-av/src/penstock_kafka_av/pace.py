"""Pace: selects frames for a maximum rate."""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from fractions import Fraction
from typing import Final

import attrs

_EARLY_NS: Final = 2_000_000
"""A frame that is this early counts as due. Cameras that are triggered at full seconds stamp their frames shortly
before or after: all of them keep the frame of the same trigger."""
_EQUAL: Final = 0.05
"""A stream whose rate is at most this part higher than the maximum keeps all its frames."""
_TIMES: Final = 33
"""Number of packets from whose times the stream's frame period is estimated."""


def _exact(rate: float) -> Fraction:
    return Fraction(str(rate))


@attrs.define
class Pace:
    """Select the first frame of each period of 1/rate seconds, counted since 1970.

    So the selection depends on the times of a frame and of the one before it, not on where decoding began. Where it
    begins, the frame before is inferred: from packets that were skipped, else from the stream's frame rate; if that is
    unknown, the first frame is selected. The same applies where time goes back.

    All frames are selected of a stream that is not faster than the rate, whose jitter would else put two frames into
    one period; and all frames without a time.

    Attributes:
        rate: Frames per second.
        frame_rate: Frames per second of the stream according to its packets or the codec; None if unknown.
    """

    rate: Fraction = attrs.field(converter=_exact)
    frame_rate: Fraction | None = None
    _early_ns: int = attrs.field(init=False)
    _judged_ns: int = 0
    _sent_ns: deque[int] = attrs.field(factory=lambda: deque(maxlen=_TIMES))

    def __attrs_post_init__(self) -> None:
        """Limit the tolerance to a quarter of a period."""
        self._early_ns = min(_EARLY_NS, int(250_000_000 / self.rate))

    def note(self, time_ns: int) -> None:
        """Note the time of a packet, in any order, in nanoseconds since 1970."""
        self._sent_ns.append(time_ns)

    def is_early(self, time_ns: int) -> bool:
        """Return whether an undecoded frame will not be selected, since an earlier one of its period was shown.

        Args:
            time_ns: Its presentation time, in nanoseconds since 1970.
        """
        judged_ns = self._judged_ns
        return 0 < judged_ns <= time_ns and self._period(judged_ns) == self._period(time_ns) and not self._is_slow()

    def wants(self, time_ns: int) -> bool:
        """Return whether the frame with this presentation time is selected. Called in display order."""
        if time_ns <= 0:
            return True
        before, self._judged_ns = self._judged_ns, time_ns
        if not 0 < before <= time_ns:
            before = self._inferred_before(time_ns)
        return not before or self._period(before) != self._period(time_ns) or self._is_slow()

    def _period(self, time_ns: int) -> int:
        """Return the number of the period of a time."""
        return (time_ns + self._early_ns) * self.rate.numerator // (self.rate.denominator * 1_000_000_000)

    def _inferred_before(self, time_ns: int) -> int:
        """Return the time of the frame before the first one; 0 if unknown."""
        earlier = max((each for each in self._sent_ns if 0 < each < time_ns), default=0)
        if earlier or self.frame_rate is None:
            return earlier
        return time_ns - int(1_000_000_000 / self.frame_rate)

    def _is_slow(self) -> bool:
        """Return whether the stream is not faster than the rate."""
        gaps_ns = sorted(later - earlier for earlier, later in itertools.pairwise(sorted(self._sent_ns)))
        count = len(gaps_ns)
        if count < _TIMES // 2 and self.frame_rate is not None:
            return self.frame_rate <= self.rate * (1 + _EQUAL)
        if not count:
            return False
        inner_ns = gaps_ns[count // 4 : count - count // 4]  # without pauses, and gaps where packets are out of order
        return statistics.fmean(inner_ns) * float(self.rate) >= 1e9 * (1 - max(_EQUAL, min(0.5, 1.5 / count)))
