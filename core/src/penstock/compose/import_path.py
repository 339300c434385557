"""Import paths, "my.module:name", which name objects that no plugin offers."""

from __future__ import annotations

import importlib
from typing import Any

from penstock.errors import ComponentLoadError
from penstock.hookspecs import PROJECT


def import_path(path: str) -> Any:
    """Import "package.module:name" and return the object. Raises ComponentLoadError."""
    module, _, name = path.partition(":")
    try:
        found = importlib.import_module(module)
        for step in name.split("."):
            found = getattr(found, step)
    except Exception as error:  # a module may raise anything at import
        from penstock.plugins.explain import brings

        advice = f"; `pip install {home}` brings it" if (home := brings(error)) else ""
        raise ComponentLoadError(f"{path!r} cannot be imported: {type(error).__name__}: {error}{advice}") from error
    return found


def is_import_path(use: str) -> bool:
    """Return whether a name leads to a module ("my.module:name"), and not to a component that a plugin offers."""
    home, colon, _ = use.partition(":")
    return bool(colon) and home != PROJECT and ("." in home or "-" not in use)
