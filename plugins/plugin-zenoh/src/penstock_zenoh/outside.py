"""Effects of the zenoh library on a process: panics that are not an `Exception`, and sessions after a fork."""

from __future__ import annotations

import ctypes
import os
from typing import Any

MOST_KEY_BYTES = 65_535
"""The longest key that zenoh 1.10 can put into a message; a longer one panics, and the session with it."""

_OURS = (KeyboardInterrupt, SystemExit, GeneratorExit)
_alive: dict[int, Any] = {}


def is_library_error(error: BaseException) -> bool:
    """Return whether a call into zenoh failed: any Exception, or a panic of its Rust code; not a wish to end."""
    return not isinstance(error, _OURS)


def has_panicked(error: BaseException) -> bool:
    """Return whether the library's Rust code panicked: its session cannot be used any more."""
    return not isinstance(error, (Exception, *_OURS))


def keep_in_children(owner: Any) -> None:
    """Let a forked child keep what `owner` holds for ever.

    A child has none of zenoh's threads, so that closing or dropping a session there waits for ever, also at the end of
    the interpreter. Until `forget(owner)`.
    """
    _alive[id(owner)] = owner


def forget(owner: Any) -> None:
    """Undo `keep_in_children`."""
    _alive.pop(id(owner), None)


def _in_child() -> None:
    for owner in _alive.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))
    _alive.clear()


os.register_at_fork(after_in_child=_in_child)
