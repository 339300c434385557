"""Pace: selects frames for a maximum rate."""

from __future__ import annotations

from collections import deque

import attrs

_ENOUGH = 4
"""Number of packets from which the stream's frame period is estimated."""


@attrs.define
class Pace:
    """Select frames by their presentation times, so that at most `rate` frames per second remain.

    Selects the frame nearest to each due time. This is as regular as the stream allows, and a stream with this rate
    keeps all its frames despite jitter. A frame without a time is always selected. The selection starts over where time
    goes back.

    Attributes:
        rate: Frames per second.
    """

    rate: float
    _due_ns: float | None = None
    _judged_ns: int = 0
    _sent_ns: deque[int] = attrs.field(factory=lambda: deque(maxlen=9))

    def note(self, time_ns: int) -> None:
        """Note the time of a packet, in any order, to estimate the stream's frame period."""
        self._sent_ns.append(time_ns)

    def is_early(self, time_ns: int) -> bool:
        """Return whether an undecoded frame is too early to be selected: the due time only rises until it is shown.

        Args:
            time_ns: Its presentation time, in nanoseconds since 1970.
        """
        due = self._due_ns
        return due is not None and 0 < self._judged_ns <= time_ns < due - self._tolerance_ns()

    def wants(self, time_ns: int) -> bool:
        """Return whether the frame with this presentation time is selected. Called in display order."""
        if time_ns <= 0:
            return True
        due, before, self._judged_ns = self._due_ns, self._judged_ns, time_ns
        period = 1e9 / self.rate
        begins = due is None or time_ns < before or time_ns >= due + period
        if not begins and due is not None and time_ns < due - self._tolerance_ns():
            return False
        self._due_ns = (time_ns if begins or due is None else due) + period
        return True

    def _tolerance_ns(self) -> float:
        """Return half the frame period of the stream, or half the period of `rate` if that is less."""
        sent = self._sent_ns
        if len(sent) < _ENOUGH:
            return 0.5e9 / self.rate
        return 0.5 * min((max(sent) - min(sent)) / (len(sent) - 1), 1e9 / self.rate)
