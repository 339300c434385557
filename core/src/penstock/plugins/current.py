"""The plugins that are installed, looked for once as long as nothing that they depend on has changed."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from penstock.plugins.found import Plugins

_lock = threading.Lock()
_known: tuple[Any, Plugins] | None = None


def installed_plugins() -> Plugins:
    """Return what `Plugins.discover()` finds; the same object until something is installed, removed or left out.

    It is looked for again when `sys.path`, the time of one of its directories, or one of the environment variables
    that begin with PENSTOCK_ has changed. Any thread.
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
