"""What a waiting producer is roused by: a counter in the kernel that its consumers may ring, from any process."""

from __future__ import annotations

import contextlib
import os
import select


class Rouser:
    """One such counter. It is closed with the last reference in this process, and so never under somebody's hands."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int | None = None) -> None:
        """Make one, or take over the descriptor of one that came from another process."""
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if descriptor is None else descriptor

    def ring(self) -> None:
        """Rouse who waits, or who waits next."""
        with contextlib.suppress(BlockingIOError):  # it has been rung very often, and nobody has answered
            os.eventfd_write(self.descriptor, 1)

    def wait(self, timeout_s: float) -> None:
        """Return when it has been rung since last time, or after the timeout."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        if poll.poll(timeout_s * 1000):
            with contextlib.suppress(BlockingIOError):  # another thread waited, too, and was quicker
                os.eventfd_read(self.descriptor)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)
