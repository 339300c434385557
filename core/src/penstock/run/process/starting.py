"""Starting a process that does not outlive this one, whatever it is doing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any


class Starter:
    """A thread that starts a process and lives as long as that does.

    Linux kills a process whose parent has ended, if it asks for that (`end_with_parent`); and it takes the thread that
    started it for its parent. So the thread has to stay.
    """

    def __init__(self, arguments: Sequence[str], **options: Any) -> None:
        """Start the process. Raises what `subprocess.Popen` raises."""
        self._end = threading.Event()
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._process: subprocess.Popen[Any] | None = None
        self._thread = threading.Thread(
            target=self._work, args=(list(arguments), options), name="penstock: parent of a process", daemon=True
        )
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    @property
    def process(self) -> subprocess.Popen[Any]:
        """The process."""
        assert self._process is not None  # or the constructor has raised
        return self._process

    def close(self) -> None:
        """Let the thread end; the process is killed by that if it still runs. Any number of times."""
        self._end.set()
        self._thread.join()

    def _work(self, arguments: Sequence[str], options: Any) -> None:
        try:
            self._process = subprocess.Popen(arguments, **options)
        except BaseException as error:  # the caller raises it
            self._error = error
        finally:
            self._started.set()
        if self._process is not None:
            self._end.wait()


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends. Linux only; elsewhere nothing is done.

    This reaches a process that executes C code and holds the interpreter, where no thread of its own could act.

    Args:
        parent: The id of the process that started this one. If it has ended already, so does this one.
    """
    if sys.platform != "linux":
        return
    import ctypes
    import signal

    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):  # a libc without it: the thread that watches has to do
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
    prctl(set_parent_death_signal, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)
