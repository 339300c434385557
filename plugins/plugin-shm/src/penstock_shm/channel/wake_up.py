"""An eventfd that wakes a blocked producer; consumers set it from any process."""

from __future__ import annotations

import contextlib
import os
import select
import threading


class WakeUpEvent:
    """A wake-up event. Thread-safe; `set` may also be called during garbage collection."""

    __slots__ = ("_closed", "_lock", "_waiting", "descriptor")

    def __init__(self, descriptor: int | None = None) -> None:
        """Create an eventfd, or take over the descriptor of one that another process sent."""
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if descriptor is None else descriptor
        self._lock = threading.RLock()  # garbage collection may call set() while this thread holds it
        self._waiting = 0
        self._closed = False

    def set(self) -> None:
        """Wake the waiting thread, or the next one to wait. Does nothing if the event is closed."""
        with self._lock:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):  # the counter is full, so it is set already
                    os.eventfd_write(self.descriptor, 1)

    def wait(self, timeout_s: float) -> None:
        """Wait until the event is set or the timeout passes; return at once if it was set before or is closed."""
        with self._lock:
            if self._closed:
                return
            self._waiting += 1
        try:
            poll = select.poll()
            poll.register(self.descriptor, select.POLLIN)
            if poll.poll(timeout_s * 1000):
                with contextlib.suppress(BlockingIOError):  # another waiting thread cleared it first
                    os.eventfd_read(self.descriptor)
        finally:
            with self._lock:
                self._waiting -= 1
                self._close_if_unused()

    def close(self) -> None:
        """Close the descriptor, or let the last waiting thread close it. May be called repeatedly."""
        with self._lock:
            self._closed = True
            self._close_if_unused()

    def abandon(self) -> None:
        """Close the copy in a forked process without the lock, whose holder is a thread of the parent."""
        self._lock, self._waiting = threading.RLock(), 0
        self.close()

    def _close_if_unused(self) -> None:
        if self._closed and not self._waiting and self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()
