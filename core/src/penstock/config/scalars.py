"""Single values as plain data: text, numbers, times, enums and bytes, in forms that every file format can hold."""

from __future__ import annotations

import base64
import enum
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal, localcontext
from pathlib import PurePath
from typing import Any
from uuid import UUID

from penstock.errors import ConfigError

MAX_ARRAY_SIZE = 10_000
"""Limit for numbers in an array; larger arrays belong in files of their own."""


def enum_to_plain(obj: enum.Enum) -> Any:
    """Return the value of a member if a file can hold it, else its name."""
    value = obj.value
    return value if type(value) in (bool, int, float, str) and value == value else obj.name


def scalar_to_plain(obj: Any, path: str = "$") -> Any:
    """Return one value as plain data. Raises ConfigError, with the path, for an object without a plain form."""
    if obj is None or isinstance(obj, bool):
        return obj
    if isinstance(obj, enum.Enum):
        return enum_to_plain(obj)
    if isinstance(obj, PurePath | UUID | Decimal | complex):
        return str(obj)
    if isinstance(obj, datetime | date | time):
        return obj.isoformat()
    if isinstance(obj, timedelta):
        return _seconds(obj)
    if isinstance(obj, bytes):
        return base64.b64encode(obj).decode("ascii")
    for plain in (str, int, float):
        if isinstance(obj, plain):
            return plain(obj)
    raise ConfigError(f"{path}: {type(obj).__module__}.{type(obj).__qualname__} cannot be written as plain data")


def _seconds(obj: timedelta) -> float | str:
    """Return a duration in seconds: a float, or text where a float lacks digits for microseconds."""
    seconds = obj.total_seconds()
    with suppress(OverflowError):  # of the largest
        if timedelta(seconds=seconds) == obj:
            return seconds
    with localcontext(prec=40):
        return str(Decimal(obj // timedelta(microseconds=1)) / 1_000_000)
