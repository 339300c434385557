"""The settings of the archivers for the stores of penstock-npy, by class or by file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def store_settings(use: str, path: str, when_exists: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the `npy` or `json` store: only the files that the template names are written."""
    settings = {"path": path, "when_exists": when_exists, **{name: value for name, value in options.items() if value}}
    if use == "npy":
        settings["sidecar"] = "none"
    else:
        settings |= {"indent": 4, "only_ascii": True}  # as herostools writes them
    return settings
