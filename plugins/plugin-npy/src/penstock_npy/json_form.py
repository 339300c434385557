"""Metadata as JSON."""

from __future__ import annotations

import base64
import datetime
import enum
import json
import math
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any
from uuid import UUID

_SCALARS = frozenset((str, int, float, bool, type(None)))
_BUILTINS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__pos__),
    (float, float.__pos__),
)


def json_bytes(value: Any, *, indent: int | None = None, only_ascii: bool = False) -> bytes:
    """Return `value` as JSON in UTF-8; strict, as RFC 8259 has it.

    Scalars and arrays of numpy become numbers and lists, dates ISO 8601, sets and tuples lists, paths and UUIDs text,
    members of an Enum their value; keys of any of these kinds become text. Text that UTF-8 cannot hold is escaped,
    with `only_ascii` all that is not ASCII.
    As in the JSON of protobuf (https://protobuf.dev/programming-guides/json/), bytes become base64, and numbers
    that are not finite become "NaN", "Infinity" or "-Infinity".

    Raises:
        TypeError: it holds something that has no form in JSON (an object, a complex number).
        ValueError: it holds itself, is nested too deeply, or two of its keys become the same text.
    """
    try:
        tree = _tree(value, ())
        try:
            text = json.dumps(tree, ensure_ascii=only_ascii, indent=indent, allow_nan=False)
        except ValueError:  # nan or inf
            tree = _finite(tree)
            text = json.dumps(tree, ensure_ascii=only_ascii, indent=indent)
        try:
            return text.encode()
        except UnicodeEncodeError:  # a lone surrogate: a file name that is not UTF-8, say
            return json.dumps(tree, indent=indent).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply for JSON, or holds itself") from None


def _tree(value: Any, above: tuple[int, ...]) -> Any:
    """Return a value with all that it holds as what `json` knows; `above` are the containers around it."""
    if type(value) in _SCALARS:
        return value
    if id(value) in above:
        raise ValueError("Circular reference: it holds itself")
    if isinstance(value, Mapping):
        return _object(value, (*above, id(value)))
    if isinstance(value, list | tuple):
        if _SCALARS.issuperset(map(type, value)):
            return list(value)
        return [_tree(item, (*above, id(value))) for item in value]
    return _tree(plain(value), (*above, id(value)))


def _object(mapping: Mapping[Any, Any], above: tuple[int, ...]) -> dict[str, Any]:
    written: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    for key, item in mapping.items():
        text = key_text(key)
        if text in keys:
            raise ValueError(f"its keys {keys[text]!r:.60} and {key!r:.60} are both {text!r:.60} in JSON; rename one")
        keys[text] = key
        written[text] = _tree(item, above)
    return written


def key_text(key: Any) -> str:
    """Return the key of a mapping as text, as JSON needs it. Raises TypeError."""
    if isinstance(key, enum.Enum):
        return key_text(key.value)
    if isinstance(key, str):
        return str.__str__(key)
    simple = plain(key) if type(key) not in _SCALARS else key
    if isinstance(simple, str):
        return simple
    if isinstance(simple, bool | int | float | None):
        return json.dumps(simple)
    raise TypeError(f"a key of type {type(key).__name__} {repr(key)[:60]} has no form in JSON")


def _finite(tree: Any) -> Any:
    """Return what `_tree` made, with text for what JSON has no number for."""
    if isinstance(tree, dict):
        return {key: _finite(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [_finite(item) for item in tree]
    if isinstance(tree, float) and not math.isfinite(tree):
        return "NaN" if math.isnan(tree) else "Infinity" if tree > 0 else "-Infinity"
    return tree


def plain(value: Any) -> Any:
    """Return a value that JSON does not know as one that it does. Raises TypeError."""
    if isinstance(value, enum.Enum):
        return value.value
    # numpy's scalars and arrays, without importing it; its dates give a datetime or an int.
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        if value.dtype.kind in "mM" and (value != value).any():
            raise TypeError("NaT has no form in JSON; use None, or text")
        found = value.tolist()
        if found is not value:
            return found
    for kind, convert in _BUILTINS:
        if isinstance(value, kind):
            return convert(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, PurePath | UUID):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"{type(value).__name__} {repr(value)[:60]} has no form in JSON")


def unmerged(value: Any) -> tuple[Any, dict[str, Any]]:
    """Return data and metadata of an object written with `merge_metadata`. Raises ValueError if it has none."""
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
        raise ValueError("has no metadata; read it with merge_metadata=False")
    data = {key: each for key, each in value.items() if key != "metadata"}
    return data["data"] if data.keys() == {"data"} else data, value["metadata"]
