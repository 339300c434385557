"""Coordinates and metadata as JSON that reads back as the same values; only keys of mappings become text.

A value without a JSON form is an object with one key: {"$float": "nan"}, {"$bytes": base64}, {"$datetime": ISO 8601},
{"$date": …}, {"$time": …}, {"$timedelta": seconds}, {"$array": [dtype, shape, base64]}; {"$dict": [[key, value], …]}
represents a mapping with keys that begin with "$" or become the same text.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from penstock_npy.json_form import key_text, plain

_SIMPLE = frozenset((str, int, bool, type(None)))
_QUICK = _SIMPLE | {float}
_TEXT = frozenset((str,))
_MOST_DEEP = 200
_encoder = msgspec.json.Encoder()
_last_keys: list[tuple[Any, ...]] = [()]
"""The last keys that msgspec writes as the json module does: those of a channel are mostly the same."""


def tagged_text(value: Mapping[str, Any]) -> str:
    """Return a mapping as one line of JSON.

    Raises:
        TypeError: it holds something that has no form.
        ValueError: it holds itself, or is nested too deeply.
    """
    if not value:
        return "{}"
    if _is_simple(value):
        try:
            text = _encoder.encode(value if type(value) is dict else dict(value)).decode()
        except (OverflowError, UnicodeEncodeError, TypeError):
            text = "…"  # a long number, a lone surrogate, or a subclass of str: the json module has a form for it
        if text.isascii():
            return text
    return json.dumps(_tag(value, 0), allow_nan=False)


def _is_simple(value: Mapping[str, Any]) -> bool:
    kinds, keys = set(map(type, value.values())), tuple(value)
    if not kinds <= _QUICK:
        return False
    if keys != _last_keys[0]:
        if set(map(type, keys)) != _TEXT or "$" in "".join(keys):
            return False
        _last_keys[0] = keys
    return float not in kinds or all(math.isfinite(each) for each in value.values() if type(each) is float)


def untagged(value: Any) -> Any:
    """Return the mapping that `tagged_text` wrote, from the value of the json module. Raises ValueError."""
    if isinstance(value, list):
        return [untagged(each) for each in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, inside),) = value.items()
        if name in _READ:
            try:
                return _READ[name](inside)
            except (TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"{value!r:.80} is not a valid {name[1:]}: {error}") from error
    return {key: untagged(each) for key, each in value.items()}


def _tag(value: Any, depth: int) -> Any:
    if depth > _MOST_DEEP:
        raise ValueError(f"it is nested more than {_MOST_DEEP} deep, or holds itself")
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if value is None or type(value) in _SIMPLE:
        return value
    if isinstance(value, Mapping):
        tagged = {key: _tag(each, depth + 1) for key, each in value.items()}
        texts = {key_text(key): each for key, each in tagged.items()}
        if len(texts) == len(tagged) and not any(text[:1] == "$" for text in texts):
            return texts
        return {"$dict": [[_tag(key, depth + 1), each] for key, each in tagged.items()]}
    if isinstance(value, list | tuple):
        return [_tag(each, depth + 1) for each in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, datetime.datetime):
        return {"$datetime": value.isoformat()}
    if isinstance(value, datetime.date):
        return {"$date": value.isoformat()}
    if isinstance(value, datetime.time):
        return {"$time": value.isoformat()}
    if isinstance(value, datetime.timedelta):
        return {"$timedelta": value.total_seconds()}
    if hasattr(value, "dtype") and getattr(value, "shape", None) and not value.dtype.hasobject:
        return {"$array": [value.dtype.str, list(value.shape), base64.b64encode(value.tobytes()).decode("ascii")]}
    return _tag(plain(value), depth + 1)


def _key(value: Any) -> Any:
    """Return a key: JSON has lists for tuples, and a list cannot be a key."""
    return tuple(map(_key, value)) if isinstance(value, list) else value


def _array(inside: Any) -> Any:
    import numpy

    dtype, shape, content = inside
    return numpy.frombuffer(base64.b64decode(content), numpy.dtype(dtype)).reshape(shape).copy()


_READ: dict[str, Callable[[Any], Any]] = {
    "$float": float,
    "$bytes": base64.b64decode,
    "$datetime": datetime.datetime.fromisoformat,
    "$date": datetime.date.fromisoformat,
    "$time": datetime.time.fromisoformat,
    "$timedelta": lambda seconds: datetime.timedelta(seconds=seconds),
    "$array": _array,
    "$dict": lambda pairs: {_key(untagged(key)): untagged(each) for key, each in pairs},
}
