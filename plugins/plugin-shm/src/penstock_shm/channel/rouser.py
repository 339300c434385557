"""What a waiting producer is roused by: a counter in the kernel that its consumers may ring, from any process."""

from __future__ import annotations

import contextlib
import os
import select
import threading


class Rouser:
    """One such counter. All methods: any thread; `ring` also from within garbage collection."""

    __slots__ = ("_closed", "_lock", "_waiting", "descriptor")

    def __init__(self, descriptor: int | None = None) -> None:
        """Make one, or take over the descriptor of one that came from another process."""
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if descriptor is None else descriptor
        self._lock = threading.RLock()  # garbage collection may ring while this thread has it
        self._waiting = 0
        self._closed = False

    def ring(self) -> None:
        """Rouse who waits, or who waits next. Nothing if it is closed."""
        with self._lock:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):  # it has been rung very often, and nobody has answered
                    os.eventfd_write(self.descriptor, 1)

    def wait(self, timeout_s: float) -> None:
        """Return when it has been rung since last time, after the timeout, or at once if it is closed."""
        with self._lock:
            if self._closed:
                return
            self._waiting += 1
        try:
            poll = select.poll()
            poll.register(self.descriptor, select.POLLIN)
            if poll.poll(timeout_s * 1000):
                with contextlib.suppress(BlockingIOError):  # another thread waited, too, and was quicker
                    os.eventfd_read(self.descriptor)
        finally:
            with self._lock:
                self._waiting -= 1
                self._let_go()

    def close(self) -> None:
        """Let go of it; if a thread waits, when that has returned: never under its hands. Any number of times."""
        with self._lock:
            self._closed = True
            self._let_go()

    def abandon(self) -> None:
        """Close what a fork has copied: no other thread is there, and whoever had the lock is in the parent."""
        self._lock, self._waiting = threading.RLock(), 0
        self.close()

    def _let_go(self) -> None:
        if self._closed and not self._waiting and self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()
