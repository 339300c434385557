"""Failures of the zenoh library: panics, which are not an `Exception`, and sessions after a fork."""

from __future__ import annotations

import ctypes
import os
from typing import Any

MOST_KEY_BYTES = 65_535
"""The longest key that zenoh 1.10 can send, in bytes; a longer one causes a panic that ends the session."""

_OURS = (KeyboardInterrupt, SystemExit, GeneratorExit)
_alive: dict[int, Any] = {}


def is_library_error(error: BaseException) -> bool:
    """Return whether a call into zenoh failed: any Exception, or a panic of its Rust code; not an interrupt or exit."""
    return not isinstance(error, _OURS)


def has_panicked(error: BaseException) -> bool:
    """Return whether the library's Rust code panicked: the session cannot be used any more."""
    return not isinstance(error, (Exception, *_OURS))


def keep_in_children(owner: Any) -> None:
    """Keep `owner` alive in forked children for ever, until `forget(owner)`.

    A child has none of zenoh's threads, so that closing or dropping a session there would block for ever, even at the
    end of the interpreter.
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
