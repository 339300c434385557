"""Values of subclasses as bytes: the built-in that equals them, or an error."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from penstock.coords import DataCoordinates
from penstock.errors import CodecError

_UNHASHABLE = (list, set, dict, bytearray)


def _fields(cls: type, *names: str) -> Callable[[Any], list[Any]]:
    """Return a function that reads these attributes as the built-in defines them, ignoring overrides of a subclass."""
    getters = [getattr(cls, name).__get__ for name in names]
    return lambda value: [get(value) for get in getters]


_DAY = _fields(date, "year", "month", "day")
_CLOCK = ("hour", "minute", "second", "microsecond", "tzinfo")
_MOMENT = _fields(datetime, *_CLOCK)
_TIME = _fields(time, *_CLOCK)
_SPAN = _fields(timedelta, "days", "seconds", "microseconds")

_BUILTINS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (bytes, lambda value: bytes.__add__(value, b"")),
    (int, int.__pos__),
    (float, float.__pos__),
    (complex, complex.__pos__),
    (datetime, lambda value: datetime(*_DAY(value), *_MOMENT(value), fold=value.fold)),
    (date, lambda value: date(*_DAY(value))),
    (time, lambda value: time(*_TIME(value), fold=value.fold)),
    (timedelta, lambda value: timedelta(*_SPAN(value))),
    (Decimal, Decimal),
    (UUID, lambda value: UUID(int=value.int)),
)
"""Built-ins whose subclasses are supported. datetime comes before date, of which it is a subclass."""


def builtin_of(value: Any, path: str) -> Any:
    """Return the built-in that equals a value of a subclass, or None if it is not of a subclass. Raises CodecError."""
    for kind, convert in _BUILTINS:
        if isinstance(value, kind):
            try:
                plain = convert(value)
                same = bool(plain == value) or (plain != plain and value != value)
            except Exception as error:  # the class is the user's
                raise CodecError(f"{path}: {type(value).__qualname__} cannot be compared: {shown(error)}") from error
            if not same:
                raise CodecError(
                    f"{path}: {type(value).__module__}.{type(value).__qualname__} {shown(value)} is not equal to the "
                    f"{kind.__name__} that it derives from ({shown(plain)}); write that, or its text"
                )
            return plain
    return None


def distinct_items(mapping: Mapping[Any, Any], path: str) -> dict[Any, Any]:
    """Return a mapping as a dict. Raises CodecError if it has a key more than once."""
    items = list(mapping.items())
    found = dict(items)
    if len(found) != len(items):
        raise CodecError(f"{path}: has the same key more than once; use a dict")
    return found


def check_distinct(keys: Iterable[Any], path: str) -> None:
    """Raise CodecError if keys of a mapping, or members of a set, could not be told apart, or hashed, when read."""
    read: dict[Any, Any] = {}
    for key in keys:
        try:
            other = read.setdefault(_as_read(key), key)
        except TypeError:
            raise CodecError(f"{path}: {shown(key)} would be read as something that cannot be a key") from None
        if other is not key:
            raise CodecError(f"{path}: {shown(other)} and {shown(key)} would be read as the same key; use one of them")


def _as_read(key: Any) -> Any:
    """Return the key as it will be read back. Raises TypeError if that cannot be hashed."""
    if isinstance(key, enum.Enum):
        return _as_read(key.value)
    if isinstance(key, DataCoordinates):
        return key
    if isinstance(key, tuple):
        return tuple(map(_as_read, key))
    if isinstance(key, frozenset):
        return frozenset(map(_as_read, key))
    if isinstance(key, (*_UNHASHABLE, Mapping)):
        raise TypeError(type(key).__name__)
    for kind, convert in _BUILTINS:
        if isinstance(key, kind):
            return convert(key) if type(key) is not kind else key
    return key


def shown(value: Any) -> str:
    """Return 80 characters of a value's repr, for errors, even if its repr raises."""
    try:
        return repr(value)[:80] if not isinstance(value, BaseException) else str(value)[:200]
    except BaseException as error:
        return f"<{type(value).__qualname__}: its repr raised {type(error).__qualname__}>"
