"""Validators shared by the settings of the source and of the store."""

from __future__ import annotations

from typing import Any

import attrs

from penstock.errors import ConfigError
from penstock.short_text import short
from penstock.validators import at_least, flag, mapping
from penstock.validators import finite_seconds as seconds

__all__ = ["MODES", "are_endpoints", "at_least", "endpoints", "flag", "mapping", "seconds", "text"]


def endpoints(value: Any) -> Any:
    """Return endpoints as a tuple; a single str is one endpoint. Wrong ones are left to `are_endpoints`."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def are_endpoints(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what `endpoints` could not convert. Raises ConfigError."""
    if value is None:
        return
    if not isinstance(value, tuple) or not all(isinstance(each, str) and each for each in value):
        raise ConfigError(f"{field.name}={short(value)}: must be a list of strings such as 'tcp/127.0.0.1:7447'")


MODES = ("peer", "client", "router")
"""The modes of a session."""


def text(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a value that is not a str. Raises ConfigError."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{field.name}={short(value)}: must be a string")
