"""A lock between processes that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
import weakref

from penstock_shm.arrays.array_errors import LockTimeoutError

_LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
_UNLOCK = struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, 0, 1, 0)
_HOLDER, _INTERRUPTED = 0, 1
_LONGEST_PAUSE_S = 0.001

_open: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """A reentrant lock on a file, among threads and processes.

    It locks the open file description (`F_OFD_SETLK`, Linux 3.15), which the kernel releases when the last descriptor
    is closed, also by the death of the process. There is no other recovery: the last write of the dead process may be
    incomplete, and `interrupted` counts these cases.

    Two numbers in the file, mapped into memory, hold the process id of the holder (0: none) and that counter.
    """

    def __init__(self, descriptor: int, state: memoryview, *, name: str) -> None:
        """Prepare a lock on the file behind this descriptor, which the caller keeps: the lock opens the file again.

        `state` is 16 bytes of that file, mapped.
        """
        self._name, self._state = name, state.cast("Q")
        self._descriptor = _reopen(descriptor)
        self._threads = threading.RLock()
        self._depth = 0
        self._closing = False
        self._pid = os.getpid()
        _open.add(self)

    def acquire(self, timeout_s: float | None) -> None:
        """Acquire the lock.

        Raises:
            LockTimeoutError: it was not released within `timeout_s` seconds; None waits for ever.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._threads.acquire(timeout=-1 if timeout_s is None else max(timeout_s, 0.0)):
            raise LockTimeoutError(
                f"{self._name}: another thread of this process has held the lock for {timeout_s:g} s"
            )
        if self._depth:
            self._depth += 1
            return
        try:
            try:
                fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _LOCK)
            except BlockingIOError:
                self._wait(until_s, timeout_s)
            state = self._state
            if state[_HOLDER]:
                state[_INTERRUPTED] += 1
            state[_HOLDER] = self._pid
            self._depth = 1
        except BaseException:
            self._threads.release()
            raise

    def release(self) -> None:
        """Release the lock once. Raises RuntimeError if this thread does not hold it."""
        if self._depth == 1:
            self._state[_HOLDER] = 0
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _UNLOCK)
        self._depth -= 1
        if self._closing and not self._depth:
            self._close()
        self._threads.release()

    def interrupted(self) -> int:
        """Return how many processes died while they held the lock."""
        return self._state[_INTERRUPTED]

    def close(self) -> None:
        """Close the file, or let the release of the lock close it."""
        self._closing = True
        if not self._depth:
            self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _wait(self, until_s: float | None, timeout_s: float | None) -> None:
        """Wait for the file's lock, held by another process or by another open file in this one."""
        if until_s is None:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLKW, _LOCK)
            return
        pause_s = 0.00002
        while True:
            if time.monotonic() >= until_s:
                raise LockTimeoutError(
                    f"{self._name}: process {self._state[_HOLDER]} has held the lock for {timeout_s:g} s; "
                    "if that process is suspended, end it to release the lock"
                )
            time.sleep(pause_s)  # the kernel has no lock with a timeout
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            try:
                fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _LOCK)
                return
            except BlockingIOError:
                pass

    def _after_fork(self) -> None:
        """Open the file again in a forked process: a lock on the inherited file would be shared with the parent."""
        self._threads, self._depth, self._pid = threading.RLock(), 0, os.getpid()
        if self._descriptor >= 0:
            mine = _reopen(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = mine


def _reopen(descriptor: int) -> int:
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)


def _after_fork() -> None:
    for lock in list(_open):
        lock._after_fork()


os.register_at_fork(after_in_child=_after_fork)
