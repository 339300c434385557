"""DisplayOrder: assigns numbers and times of packets to frames in display order."""

from __future__ import annotations

import heapq
from collections import deque

import attrs


@attrs.define
class DisplayOrder:
    """Give the n-th frame in display order the number of the n-th packet sent.

    So numbers increase in display order although packets arrive in decoding order, and decoding the same packets again
    yields the same numbers. A packet whose frame was lost keeps its number: later frames do not move up. If packets
    have no presentation time, the frame gets a packet's time in the same way.
    """

    _places: deque[tuple[int, int]] = attrs.field(factory=deque)  # seq and time_ns, in decoding order
    _pending: list[tuple[int, int]] = attrs.field(factory=list)  # heap of pts and serial of frames not shown yet
    _next: int = 0  # serial of the next packet

    def sent(self, serial: int, *, seq: int, time_ns: int, pts: int | None) -> None:
        """Note a packet that was sent, or one that was skipped but has its place in the order."""
        self._places.append((seq, time_ns))
        self._next = serial + 1
        if pts is not None:
            heapq.heappush(self._pending, (pts, serial))

    def shown(self, serial: int, *, pts: int | None, is_key: bool) -> tuple[int, int] | None:
        """Return number and time of the next frame in display order; None if its packet already yielded one."""
        places = self._places
        if pts is not None:
            pending, own = self._pending, (pts, serial)
            while pending and pending[0] < own:  # lost: earlier frames would be out by now
                heapq.heappop(pending)
                if places:
                    places.popleft()
            if not pending or pending[0] != own:
                return None
            heapq.heappop(pending)
        elif is_key:  # all frames sent before it would be out by now
            for _ in range(len(places) - (self._next - serial)):
                places.popleft()
        return places.popleft() if places else None

    def clear(self) -> None:
        """Forget all packets, after a discontinuity."""
        self._places.clear()
        self._pending.clear()
