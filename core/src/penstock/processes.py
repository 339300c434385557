"""Processes of this machine: whether a process is alive, and when it was started."""

from __future__ import annotations

import os
from pathlib import Path

_UNKNOWN = "unknown"
_LARGEST = 2**31 - 1


def is_alive(process: int) -> bool:
    """Return whether there is a process with this id, of any user, that has not ended.

    A zombie, which has ended and waits for its parent, is not alive. The id is one of this machine and, in a container,
    of its namespace. On Windows every process counts as alive.
    """
    return start_of(process) != ""


def start_of(process: int) -> str:
    """Return the time at which a process was started, as text to compare: an id may be used again.

    Returns:
        On Linux the number of clock ticks between the start of the machine and that of the process; "unknown" if the
        system does not show it; "" if there is no such process, or only a zombie.
    """
    if not 0 < process <= _LARGEST:
        return ""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in ("Z", "X") else fields[19]  # proc(5): state and starttime
    except OSError:  # no such process, no /proc, or /proc hides processes of other users
        pass
    if os.name != "posix":  # there, os.kill(process, 0) would send Ctrl-C
        return _UNKNOWN
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return _UNKNOWN
