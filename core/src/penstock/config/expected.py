"""The error for a value that does not fit a field."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_origin

from penstock.suggestions import close_to

Hook = Callable[[Any, Any], Any]
"""A function of (value, annotation) that returns the object; a structure hook in cattrs."""


def origin_of(kind: Any) -> Any:
    """Return list for list[int], and a plain class as it is."""
    return get_origin(kind) or kind


def expected(what: str, value: Any, *, near: Iterable[Any] = ()) -> TypeError:
    """Return the error for a value of the wrong type; it suggests the nearest of the words in `near`."""
    words = [word for word in near if isinstance(word, str)]
    hint = close_to(value, words) if isinstance(value, str) else ""
    return TypeError(f"expected {what}, got {'nothing' if value is None else _shown(value)}{hint}")


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '…'}"
