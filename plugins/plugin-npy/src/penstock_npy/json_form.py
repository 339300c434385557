"""What metadata hold, as JSON."""

from __future__ import annotations

import datetime
import enum
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any
from uuid import UUID


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """Return `value` as JSON in UTF-8.

    Scalars and arrays of numpy become numbers and lists, dates ISO 8601, sets and tuples lists, paths and UUIDs text,
    members of an Enum their value, and keys that are numbers text. nan and inf are written as NaN and Infinity, which
    Python, numpy and JavaScript's JSON5 read, but strict JSON has not.

    Raises:
        TypeError: it holds something that has no form in JSON (bytes, an object).
        ValueError: it holds itself, or is nested too deeply.
    """
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False, indent=indent).encode("utf-8", "surrogatepass")
    except RecursionError:
        raise ValueError("it is nested too deeply for JSON") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, PurePath | UUID):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    # numpy's scalars and arrays, without importing it; its dates give a datetime or an int.
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        plain = value.tolist()
        if plain is not value:
            return plain
    raise TypeError(f"{type(value).__name__} {repr(value)[:60]} has no form in JSON")
