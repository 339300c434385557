"""Checks of options of nodes, edges and retries: validators of attrs that name the option, its value and a remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from penstock.errors import ConfigError
from penstock.suggestions import close_to

Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def at_least(least: int) -> Check:
    """Return a check for whole numbers from `least` on, or None."""

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ConfigError(f"{field.name}={value!r}: must be a whole number of at least {least}")

    return check


def positive(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for seconds above 0, or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
        raise ConfigError(f"{field.name}={value!r}: must be a number of seconds above 0")


def not_negative(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for seconds of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ConfigError(f"{field.name}={value!r}: must be a number of seconds, 0 or more")


def one_of(*choices: str) -> Check:
    """Return a check for one of these words."""

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if value not in choices:
            near = close_to(value, choices) if isinstance(value, str) else ""
            raise ConfigError(f"{field.name}={value!r}: must be one of {', '.join(choices)}{near}")

    return check


def flag(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{field.name}={value!r}: must be True or False")


def name(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check for a name that can be written, or None."""
    if value is not None:
        check_name(field.name, value)


def check_name(what: str, value: Any) -> None:
    """Raise ConfigError unless this is a text of at least one character that can be written as UTF-8."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{what}={value!r}: must be a text of at least one character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{what}={value!r}: holds surrogates, which cannot be written as UTF-8") from None


def of_class(kind: type) -> Check:
    """Return a check for instances of a class, or None."""

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not isinstance(value, kind):
            raise ConfigError(f"{field.name}={value!r}: must be a {kind.__name__}(...), or None")

    return check
