"""Signals: whether a run may handle one, and SIGTERM as an exception that leaves a `with` block."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Final

_FREE: Final = {
    signal.SIGINT: (signal.default_int_handler, signal.SIG_DFL),
    signal.SIGTERM: (signal.SIG_DFL,),
}


def is_free(number: signal.Signals) -> bool:
    """Return whether this thread may handle a signal: it is the main thread, and the signal has no other handler."""
    return threading.current_thread() is threading.main_thread() and signal.getsignal(number) in _FREE[number]


class SigtermLeaves:
    """Between `enter` and `leave`, SIGTERM raises SystemExit in the main thread, as Ctrl-C raises KeyboardInterrupt.

    Has no effect outside the main thread, or if there is already a handler. The exit status is 143 (128 + 15).
    """

    def __init__(self) -> None:
        self._entered = False

    def enter(self) -> None:
        """Install the handler. May be called more than once."""
        if not self._entered and is_free(signal.SIGTERM):
            signal.signal(signal.SIGTERM, self._leave)
            self._entered = True

    def leave(self) -> None:
        """Remove the handler, unless another one has been set since. May be called more than once."""
        if self._entered and threading.current_thread() is threading.main_thread():
            self._entered = False
            if signal.getsignal(signal.SIGTERM) == self._leave:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        raise SigtermExit(128 + number)


class SigtermExit(SystemExit):
    """Raised on SIGTERM; ends the program with the status of that signal."""
