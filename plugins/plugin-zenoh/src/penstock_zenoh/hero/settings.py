"""The settings with which the archivers use the stores of penstock-npy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.errors import ConfigError
from penstock_zenoh.hero.name_template import literal_suffix


def store_settings(use: str, path: str, when_exists: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the `npy` or `json` store, which then writes no other files than the template names."""
    settings = {"path": path, "when_exists": when_exists, **{name: value for name, value in options.items() if value}}
    if use == "npy":
        settings["sidecar"] = "none"
    else:
        settings |= {"indent": 4, "only_ascii": True}  # the format of herostools
        if not path.endswith(".json"):
            settings["suffix"] = literal_suffix(path)
    return settings


def retries(value: Any) -> int:
    """Return a number of retries, given as a number or its text. Raises ConfigError."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if number < 0 or isinstance(value, bool):
        raise ConfigError(f"max_retries={value!r}: must be a number of retries, 0 or more")
    return number
