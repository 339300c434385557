"""Signals: which of them a run may handle, and SIGTERM as an exception that leaves a `with` block."""

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
    """Return whether this thread may handle a signal: it is the main one, and nobody else has a handler for it."""
    return threading.current_thread() is threading.main_thread() and signal.getsignal(number) in _FREE[number]


class SigtermLeaves:
    """While it is entered, SIGTERM raises SystemExit in the main thread, as Ctrl-C raises KeyboardInterrupt.

    It does nothing outside the main thread, or where there is a handler already. The exit status is 143 (128 + 15).
    """

    def __init__(self) -> None:
        self._entered = False

    def enter(self) -> None:
        """Begin. More than once does nothing."""
        if not self._entered and is_free(signal.SIGTERM):
            signal.signal(signal.SIGTERM, self._leave)
            self._entered = True

    def leave(self) -> None:
        """End, unless somebody has set another handler since. More than once does nothing."""
        if self._entered and threading.current_thread() is threading.main_thread():
            self._entered = False
            if signal.getsignal(signal.SIGTERM) == self._leave:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        raise SigtermExit(128 + number)


class SigtermExit(SystemExit):
    """SIGTERM has come: leave, and end with its status."""
