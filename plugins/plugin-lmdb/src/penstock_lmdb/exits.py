"""Exits of a process: buffered objects reach the disk at a normal exit, after an exception, and on SIGTERM."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_log = logging.getLogger(__name__)
_flushes: dict[int, Callable[[], None]] = {}
_previous: dict[int, Any] = {}
_deferred: list[tuple[int, FrameType | None]] = []
_process = 0
_MAIN = threading.main_thread().ident


def flush_at_exit(owner: object, flush: Callable[[], None]) -> None:
    """Call `flush` when the process ends, until `forget`; handle signals if this is the main thread.

    SIGTERM and SIGINT flush and then do what they did before: the earlier handler is called, or the process ends
    with 128 + the number of the signal. Python's own handler of SIGINT stays: it raises KeyboardInterrupt, and the exit
    that follows flushes. So does a signal that is ignored, and a handler that was not set from Python.
    """
    global _process
    if _process != os.getpid():  # the first, or in a forked child, where those of its parent must not be flushed
        _flushes.clear()
        if not _process:
            atexit.register(_flush_all)
        _process = os.getpid()
    _flushes[id(owner)] = flush
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            current = signal.getsignal(number)
            if current in (_handle, signal.default_int_handler, signal.SIG_IGN, None):
                continue
            _previous[number] = current
            signal.signal(number, _handle)


def forget(owner: object) -> None:
    """Stop; the last one restores the earlier handlers, unless others have been set since."""
    _flushes.pop(id(owner), None)
    if _flushes or threading.current_thread() is not threading.main_thread():
        return
    for number, previous in list(_previous.items()):
        if signal.getsignal(number) is _handle:
            signal.signal(number, previous)
            del _previous[number]


class _Uninterrupted:
    """A block that signals wait for, in the main thread; blocks may be nested."""

    depth = 0

    def __enter__(self) -> None:
        if threading.get_ident() == _MAIN:
            self.depth += 1

    def __exit__(self, *_: object) -> None:
        if threading.get_ident() == _MAIN:
            self.depth -= 1
            while _deferred and not self.depth:
                _end(*_deferred.pop(0))


_UNINTERRUPTED = _Uninterrupted()


def uninterrupted() -> _Uninterrupted:
    """Delay the handlers, in the main thread, until the outermost block ends, since they need its locks."""
    return _UNINTERRUPTED


def _handle(number: int, frame: FrameType | None) -> None:
    if _UNINTERRUPTED.depth:
        _deferred.append((number, frame))
    else:
        _end(number, frame)


def _end(number: int, frame: FrameType | None) -> None:
    _flush_all()
    previous = _previous.get(number)
    if callable(previous):
        previous(number, frame)
    elif previous is not signal.SIG_IGN:
        raise SystemExit(128 + number)


def _flush_all() -> None:
    if _process != os.getpid():
        return
    for flush in list(_flushes.values()):
        try:
            flush()
        except Exception:  # a failure must not prevent the others from being flushed
            _log.exception("buffered records could not be written at the end of the process")
