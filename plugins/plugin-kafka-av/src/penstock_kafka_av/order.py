"""DisplayOrder: numbers and times for pictures, from the packets that they came in."""

from __future__ import annotations

import heapq
from collections import deque

import attrs


@attrs.define
class DisplayOrder:
    """Give the n-th picture that is shown the number of the n-th packet that was sent.

    So numbers rise with display though packets come in the order of decoding, and the same packets give the same
    numbers whenever they are decoded again. A packet whose picture was lost keeps its number: nothing moves up.
    Where packets say no time of display, the picture gets the packet's time in the same way.
    """

    _places: deque[tuple[int, int]] = attrs.field(factory=deque)  # seq and time_ns, in the order of decoding
    _pending: list[tuple[int, int]] = attrs.field(factory=list)  # heap of pts and serial of what is not shown
    _next: int = 0  # serial of the next packet

    def sent(self, serial: int, *, seq: int, time_ns: int, pts: int | None) -> None:
        """Note a packet that was sent, or left out though it has its place in the order."""
        self._places.append((seq, time_ns))
        self._next = serial + 1
        if pts is not None:
            heapq.heappush(self._pending, (pts, serial))

    def shown(self, serial: int, *, pts: int | None, is_key: bool) -> tuple[int, int] | None:
        """Return number and time of the picture that is shown next; None if its packet has shown one already."""
        places = self._places
        if pts is not None:
            pending, own = self._pending, (pts, serial)
            while pending and pending[0] < own:  # lost: what is shown before this would be out
                heapq.heappop(pending)
                if places:
                    places.popleft()
            if not pending or pending[0] != own:
                return None
            heapq.heappop(pending)
        elif is_key:  # all that was sent before it would be out
            for _ in range(len(places) - (self._next - serial)):
                places.popleft()
        return places.popleft() if places else None

    def clear(self) -> None:
        """Begin anew: what comes does not continue what was."""
        self._places.clear()
        self._pending.clear()
