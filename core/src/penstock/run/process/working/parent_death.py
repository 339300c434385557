"""End a worker process with the process of its run, however that ends."""

from __future__ import annotations

import os
import sys


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends. Only on Linux; no effect elsewhere.

    This also ends a process that is in C code and holds the interpreter lock, where none of its threads could act.

    Args:
        parent: The id of the process that started this one. If it has already ended, this process ends too.
    """
    if sys.platform != "linux":
        return
    import ctypes
    import signal

    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):  # a libc without it: only the thread that watches ends this process
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
    prctl(set_parent_death_signal, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before the call
        os._exit(1)
