"""A watch on a file: it wakes waiting threads when any process writes to it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import sys
import threading
import time
from pathlib import Path

_MODIFIED = 0x2
_FLAGS = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_LOOK_EACH_S = 0.05
_LOOK_ANYWAY_S = 1.0


class FileWatch:
    """Wait for writes to a file, by inotify on Linux; elsewhere, or if there is no watch, check 20 times a second.

    `wait` may return without a write: check the content.
    """

    def __init__(self, path: Path) -> None:
        self._woken, self._wake = os.pipe()
        self._closing = threading.Lock()  # a descriptor that was closed may be another file's by now
        self._is_closed = False
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        self._inotify = _watch(path)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        if self._inotify >= 0:
            self._poll.register(self._inotify, select.POLLIN)

    def wait(self, timeout_s: float) -> None:
        """Return after a write, `wake`, or the timeout."""
        longest = _LOOK_ANYWAY_S if self._inotify >= 0 else _LOOK_EACH_S
        for descriptor, _ in self._poll.poll(1000 * max(0.0, min(timeout_s, longest))):
            with contextlib.suppress(BlockingIOError):
                while len(os.read(descriptor, 4096)) == 4096:
                    pass

    def wake(self) -> None:
        """Let `wait` return now. From any thread, also after it was closed."""
        with self._closing, contextlib.suppress(BlockingIOError):
            if not self._is_closed:
                os.write(self._wake, b"w")

    def close(self) -> None:
        """End the watch, for which no thread may wait. May be called repeatedly."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            for descriptor in (self._woken, self._wake, self._inotify):
                if descriptor >= 0:
                    os.close(descriptor)


def _watch(path: Path) -> int:
    """Return a descriptor that becomes readable when the file is written to; -1 if that is not possible."""
    if not sys.platform.startswith("linux"):
        return -1
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.inotify_init1(_FLAGS))
    if descriptor >= 0 and libc.inotify_add_watch(descriptor, os.fsencode(path), _MODIFIED) < 0:
        os.close(descriptor)
        return -1
    return descriptor


def seconds_until(deadline: float) -> float:
    """Return the seconds until a moment of the monotonic clock, 0 if it is over."""
    return max(0.0, deadline - time.monotonic())
