"""End with the process of the run, whatever happens to it."""

from __future__ import annotations

import os
import sys


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
