"""Objects as plain data: str, int, float, bool, None, list and dict, which any file format can hold."""

from __future__ import annotations

import base64
import dataclasses
import enum
import sys
import typing
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from types import UnionType
from typing import Any, get_args, get_origin
from uuid import UUID

import attrs

from penstock.errors import ConfigError

MAX_DEPTH = 100
MAX_ARRAY_SIZE = 10_000
"""Numbers in an array; more of them belong into a file of their own."""

TAG = "type"
"""The key that tells classes apart where a field may be one of several."""


def to_plain(obj: Any, *, path: str = "$") -> Any:
    """Return an object as plain data, of which `from_plain` makes an equal one.

    Classes become dicts of their init fields, tuples and sets lists (sets sorted, if possible), paths, dates, times,
    UUIDs and decimals str, durations seconds, bytes base64, an enum its value, arrays of numpy nested lists. A field
    that may be one of several classes gets the key "type".

    Raises:
        ConfigError: something in it has no such form; the message begins with its path.
    """
    return _plain(obj, path, 0)


def _plain(obj: Any, path: str, depth: int) -> Any:
    if obj is None or type(obj) in (bool, int, float, str):
        return obj
    if depth > MAX_DEPTH:
        raise ConfigError(f"{path[:200]}: is nested more than {MAX_DEPTH} deep (or holds itself)")
    if isinstance(obj, enum.Enum):
        value = obj.value
        return value if type(value) in (bool, int, float, str) else obj.name
    if not isinstance(obj, type) and (attrs.has(type(obj)) or dataclasses.is_dataclass(obj)):
        return _fields(obj, path, depth)
    if isinstance(obj, Mapping):
        return {_key(key, path): _plain(value, f"{path}.{key}", depth + 1) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(obj)]
    if isinstance(obj, set | frozenset):
        return _plain(_sorted(obj), path, depth)
    return _scalar(obj, path)


def _fields(obj: Any, path: str, depth: int) -> dict[str, Any]:
    cls = type(obj)
    fields: Any = attrs.fields(cls) if attrs.has(cls) else dataclasses.fields(cls)
    hints = type_hints(cls)
    plain: dict[str, Any] = {}
    for field in fields:
        if not field.init:
            continue
        value = getattr(obj, field.name)
        plain[field.name] = _plain(value, f"{path}.{field.name}", depth + 1)
        if type(value) in tagged_classes(hints.get(field.name)):
            plain[field.name] = {TAG: type(value).__name__, **plain[field.name]}
    return plain


def type_hints(cls: type) -> dict[str, Any]:
    """Return the annotations of a class, or an empty dict if they name what cannot be imported."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def is_class_of_fields(cls: Any) -> bool:
    """Return True for an attrs class or a dataclass."""
    return isinstance(cls, type) and (attrs.has(cls) or dataclasses.is_dataclass(cls))


def tagged_classes(annotation: Any) -> tuple[type, ...]:
    """Return the classes of a union that has more than one, and none of which has a field named "type"."""
    if get_origin(annotation) not in (typing.Union, UnionType):
        return ()
    classes = tuple(member for member in get_args(annotation) if is_class_of_fields(member))
    if len(classes) < 2 or any(TAG in type_hints(cls) for cls in classes):
        return ()
    return classes


def _key(key: Any, path: str) -> str:
    plain = _plain(key, f"{path} key {key!r}", 0)
    if isinstance(plain, str):
        return plain
    if type(plain) is int:
        return str(plain)
    raise ConfigError(f"{path}: key {key!r} ({type(key).__name__}) cannot be a key in a file; use a str or an int")


def _sorted(items: set[Any] | frozenset[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:  # of several types: in the order of their text, so that equal sets give equal files
        return sorted(items, key=repr)


def _scalar(obj: Any, path: str) -> Any:
    if isinstance(obj, PurePath | UUID | Decimal | complex):
        return str(obj)
    if isinstance(obj, datetime | date | time):
        return obj.isoformat()
    if isinstance(obj, timedelta):
        return obj.total_seconds()
    if isinstance(obj, bytes):
        return base64.b64encode(obj).decode("ascii")
    numpy = sys.modules.get("numpy")  # whoever has an array has imported it
    if numpy is not None and isinstance(obj, numpy.ndarray | numpy.generic) and obj.dtype.kind in "biufSU":
        if obj.size > MAX_ARRAY_SIZE:
            raise ConfigError(f"{path}: an array of {obj.size} numbers; write it to a file and give the path of that")
        return _plain(obj.tolist(), path, 0)
    for plain in (str, int, float):
        if isinstance(obj, plain):
            return plain(obj)
    raise ConfigError(f"{path}: {type(obj).__module__}.{type(obj).__qualname__} cannot be written as plain data")
