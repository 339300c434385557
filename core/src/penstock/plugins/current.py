"""The installed plugins, discovered once until the environment changes."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from penstock.plugins.found import Plugins

_lock = threading.Lock()
_known: tuple[Any, Plugins] | None = None


def installed_plugins() -> Plugins:
    """Return the result of `Plugins.discover()`; the same object until a plugin is installed, removed or excluded.

    Plugins are discovered again when `sys.path`, the modification time of one of its directories, or an environment
    variable whose name begins with PENSTOCK_ has changed. Thread-safe.
    """
    global _known
    state = _state()
    with _lock:
        if _known is not None and _known[0] == state:
            return _known[1]
    found = Plugins.discover()
    with _lock:
        _known = (state, found)
    return found


def _state() -> Any:
    variables = [(name, value) for name, value in os.environ.items() if name.startswith("PENSTOCK_")]
    return tuple(sys.path), tuple(map(_changed_ns, sys.path)), sorted(variables), tuple(map(id, sys.meta_path))


def _changed_ns(directory: str) -> int:
    try:
        return os.stat(directory or ".").st_mtime_ns
    except OSError:
        return 0
