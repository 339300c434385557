"""Validators for names of HEROs, events and realms, and the key expression of several events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import zenoh

from penstock.errors import ConfigError
from penstock.short_text import short


def selector(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse an invalid selector of HEROs. Raises ConfigError."""
    if not isinstance(value, str) or not value or not _is_key(f"@object/x/{value}/x"):
        hint = f"; write '{value.replace('*', '$*')}'" if isinstance(value, str) and "*" in value else ""
        raise ConfigError(
            f"{field.name}={short(value)}: is not a selector of HEROs: write a name, '*' for any name, '**' for "
            f"names with '/', or '$*' within a name, as in 'cam$*'{hint}"
        )


def realm(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse an invalid realm. Raises ConfigError."""
    if not isinstance(value, str) or "/" in value or not _is_key(f"@object/{value}/x"):
        raise ConfigError(f"{field.name}={short(value)}: is not a realm: write one chunk of a key, such as 'heros'")


def name(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse an invalid name of a HERO. Raises ConfigError."""
    if not isinstance(value, str) or not value or "*" in value or not _is_key(f"@object/x/{value}/x"):
        raise ConfigError(f"{field.name}={short(value)}: is not a HERO's name: write chunks of a key without '*$#?'")


def event(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse an invalid name of an event. Raises ConfigError."""
    if not isinstance(value, str) or not value or "/" in value or "*" in value or not _is_key(value):
        raise ConfigError(f"{field.name}={short(value)}: is not the name of an event, such as 'acquisition_data'")


def event_names(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a value that is neither the name of an event nor a list of names. Raises ConfigError."""
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not names:
        raise ConfigError(f"{field.name}={short(value)}: must be the name of an event or a list of names")
    for each in names:
        event(_, field, each)


def subscribed_event(names: Sequence[str]) -> str:
    """Return the chunk of a key expression that matches all these names, so that one subscription keeps their order.

    >>> subscribed_event(["frame"]), subscribed_event(["acquisition_data", "acquisition_stopped"])
    ('frame', 'acquisition_$*')
    """
    if len(set(names)) == 1:
        return names[0]
    beginning = common_beginning(names)
    return f"{beginning}$*" if beginning else "*"


def common_beginning(names: Sequence[str]) -> str:
    """Return the characters that all these names begin with."""
    first, last = min(names, default=""), max(names, default="")
    shared = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return first[:shared]


def _is_key(key: str) -> bool:
    try:
        zenoh.KeyExpr(key)
    except zenoh.ZError:
        return False
    return True
