"""The order of files: by their names in natural order, by their time, or by a field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NUMBERS = re.compile(r"([0-9]+)")


def natural(text: str) -> tuple[Any, ...]:
    """Return a key that sorts "a2" before "a10"."""
    return tuple(
        int(part) if number % 2 else part for number, part in enumerate(_NUMBERS.split(text))
    )  # text, number, text …


def rank(value: Any) -> tuple[Any, ...]:
    """Return a key for values of one field: numbers, then text in natural order, then other values by their repr."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        return (0, value)
    return (1, natural(value)) if isinstance(value, str) else (2, repr(value))


def field_of(fields: Mapping[str, Any], name: str) -> Any:
    """Return a field of a record: "seq", "coords.z", "metadata.camera", or of whichever has it: "z".

    Raises:
        KeyError: it is not known.
    """
    where, dot, key = name.partition(".")
    if dot and where in ("coords", "metadata"):
        return fields[where][key]
    if name in fields and name not in ("coords", "metadata"):
        return fields[name]
    coords = fields.get("coords", {})
    return coords[name] if name in coords else fields.get("metadata", {})[name]
