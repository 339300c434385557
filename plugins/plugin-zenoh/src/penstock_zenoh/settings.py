"""Validators shared by the settings of the source and of the store."""

from __future__ import annotations

from typing import Any

import attrs

from penstock.errors import ConfigError
from penstock.validators import at_least, flag, mapping
from penstock.validators import finite_seconds as seconds

__all__ = ["MODES", "at_least", "endpoints", "flag", "mapping", "seconds", "text"]


def endpoints(value: Any) -> tuple[str, ...] | None:
    """Return endpoints as a tuple; a single str is one endpoint. Raises ConfigError."""
    if value is None:
        return None
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, (tuple, list)) or not all(isinstance(each, str) and each for each in given):
        raise ConfigError(f"endpoints {value!r}: must be a list of strings such as 'tcp/127.0.0.1:7447'")
    return tuple(given)


MODES = ("peer", "client", "router")
"""The modes of a session."""


def text(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a value that is not a str. Raises ConfigError."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{field.name}={value!r}: must be a string")
