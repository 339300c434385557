"""The names of HEROs, their events and realms: what may be observed, and by which key expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import zenoh

from penstock.errors import ConfigError


def selector(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what selects no HEROs. Raises ConfigError."""
    if not isinstance(value, str) or not value or not _is_key(f"@object/x/{value}/x"):
        hint = f"; write '{value.replace('*', '$*')}'" if isinstance(value, str) and "*" in value else ""
        raise ConfigError(
            f"{field.name}={value!r}: selects no HERO; it is a name, '*' for one of any name, '**' for names with '/' "
            f"in them, '$*' within a name, as in 'cam$*'{hint}"
        )


def realm(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what is no realm. Raises ConfigError."""
    if not isinstance(value, str) or "/" in value or not _is_key(f"@object/{value}/x"):
        raise ConfigError(f"{field.name}={value!r}: is no realm; it is one chunk of a key, as 'heros'")


def name(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what no HERO is called. Raises ConfigError."""
    if not isinstance(value, str) or not value or "*" in value or not _is_key(f"@object/x/{value}/x"):
        raise ConfigError(f"{field.name}={value!r}: is no name of a HERO: chunks of a key, without '*', '$', '#', '?'")


def event(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what is no name of an event. Raises ConfigError."""
    if not isinstance(value, str) or not value or "/" in value or "*" in value or not _is_key(value):
        raise ConfigError(f"{field.name}={value!r}: is no name of an event, as 'acquisition_data'")


def event_names(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what is no name of an event, nor several. Raises ConfigError."""
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not names:
        raise ConfigError(f"{field.name}={value!r}: must be the name of an event, or a list of some")
    for each in names:
        event(_, field, each)


def subscribed_event(names: Sequence[str]) -> str:
    """Return the chunk of a key expression that has all these names. One subscription keeps their order.

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
