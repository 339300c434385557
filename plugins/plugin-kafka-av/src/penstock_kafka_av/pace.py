"""Pace: which pictures are wanted, if no more than so many a second are."""

from __future__ import annotations

from collections import deque

import attrs

_ENOUGH = 4
"""Packets that tell how dense a stream is, also where they come in the order of decoding."""


@attrs.define
class Pace:
    """Choose pictures by the times at which they are shown, so that no more than `rate` a second remain.

    The picture nearest to each due time is chosen: that is as regular as the stream allows, and a stream that has this
    rate itself keeps all its pictures though their times waver. A picture without a time is always chosen. Where time
    goes back, the choice begins again.

    Attributes:
        rate: Pictures per second.
    """

    rate: float
    _due_ns: float | None = None
    _judged_ns: int = 0
    _sent_ns: deque[int] = attrs.field(factory=lambda: deque(maxlen=9))

    def note(self, time_ns: int) -> None:
        """Take the time of a packet that was sent, in whatever order: it tells how dense the pictures are."""
        self._sent_ns.append(time_ns)

    def is_early(self, time_ns: int) -> bool:
        """Return whether a picture that is not decoded yet will not be wanted: `due` only rises until it is shown."""
        due = self._due_ns
        return due is not None and 0 < self._judged_ns <= time_ns < due - self._tolerance_ns()

    def wants(self, time_ns: int) -> bool:
        """Return whether the picture that is shown next is wanted. Called in the order of display."""
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
        """Return half the time between two pictures of the stream, or between two that are wanted if that is less."""
        sent = self._sent_ns
        if len(sent) < _ENOUGH:
            return 0.5e9 / self.rate
        return 0.5 * min((max(sent) - min(sent)) / (len(sent) - 1), 1e9 / self.rate)
