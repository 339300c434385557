"""Checks that the settings of the source and of the store share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from penstock.errors import ConfigError


def endpoints(value: Any) -> tuple[str, ...] | None:
    """Return endpoints as a tuple; a single text is one endpoint. Raises ConfigError."""
    if value is None:
        return None
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, (tuple, list)) or not all(isinstance(each, str) and each for each in given):
        raise ConfigError(f"endpoints {value!r}: must be a list of texts such as 'tcp/127.0.0.1:7447'")
    return tuple(given)


MODES = ("peer", "client", "router")
"""What a session can be."""


def text(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what is no text. Raises ConfigError."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{field.name}={value!r}: must be a text")


def flag(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what is not True or False. Raises ConfigError."""
    if not isinstance(value, bool):
        raise ConfigError(f"{field.name}={value!r}: must be True or False")


def mapping(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what does not map texts. Raises ConfigError."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{field.name}={value!r}: must be a mapping with texts as keys")


def at_least(least: int) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Return a check that refuses what is no whole number of at least `least`."""

    def check(_: object, field: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{field.name}={value!r}: must be a whole number of at least {least}")

    return check


def seconds(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what is no positive number of seconds. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ConfigError(f"{field.name}={value!r}: must be a number of seconds above 0")
