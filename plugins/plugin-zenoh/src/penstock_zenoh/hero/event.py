"""The content of a HERO's event: its data and its metadata, or an error if it is invalid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy
import zenoh

from penstock.errors import CodecError
from penstock_zenoh.hero.tagged import ERROR, PLACEHOLDER, REFERENCE, Tagged

Shape = Literal["pair", "arrays", "value", "observables"]
"""The interpretation of an event's value: see `HeroSource.shape`."""

_NO_DATA = (REFERENCE, PLACEHOLDER, ERROR)


class HeroEventError(CodecError):
    """The value of a HERO's event does not have the configured shape."""


def data_and_metadata(value: Any, shape: Shape) -> tuple[Any, Mapping[str, Any]]:
    """Return data and metadata of an event's value. Raises HeroEventError, which describes a value of another shape."""
    return _SHAPES[shape](value)


def event_key(realm: str, hero: str, event: str) -> str:
    """Return the key, or key expression, of an event."""
    return str(zenoh.KeyExpr.autocanonize(f"@object/{realm}/{hero}/{event}"))


def read_event_key(key: str) -> tuple[str, str, str] | None:
    """Return (realm, HERO, event) of a key, or None if it is not an event's key. A HERO's name may contain "/"."""
    chunks = key.split("/")
    if len(chunks) < 4 or chunks[0] != "@object":
        return None
    return chunks[1], "/".join(chunks[2:-1]), chunks[-1]


def _pair(value: Any) -> tuple[Any, Mapping[str, Any]]:
    if type(value) is list and len(value) == 2 and isinstance(value[1], (dict, Mapping)):  # dict: far quicker to tell
        return _real(value[0]), _named(value[1])
    if isinstance(value, Mapping):
        return _real(value), _named(value)
    raise HeroEventError(
        f"an event is {_described(value)}, and neither (data, metadata) nor a dict: if this HERO sends such values, "
        "set shape='observables' or shape='value'"
    )


def as_array(data: Any) -> Any:
    """Return a list of numbers (nested, of any regular shape) or a number as a numpy array, other data unchanged."""
    if not isinstance(data, (list, tuple, int, float, complex)):
        return data
    try:
        array = numpy.asarray(data)
    except (ValueError, OverflowError):  # lists of different lengths
        return data
    return array if array.dtype.kind in "biufc" else data


def _arrays(value: Any) -> tuple[Any, Mapping[str, Any]]:
    data, metadata = _pair(value)
    return as_array(data), metadata


def _value(value: Any) -> tuple[Any, Mapping[str, Any]]:
    return _real(value), {}


def _observables(value: Any) -> tuple[Any, Mapping[str, Any]]:
    rows = [value] if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) else value
    if not isinstance(rows, list) or not rows:
        raise HeroEventError(f"an event is {_described(value)}, and not a list of (name, value, unit)")
    found: dict[str, Any] = {}
    for row in rows:
        if not isinstance(row, list) or len(row) != 3 or not isinstance(row[0], str):
            raise HeroEventError(f"an observable is {_described(row)}, and not (name, value, unit)")
        if row[0] in found:
            raise HeroEventError(f"an event has the observable {row[0]!r:.60} twice")
        found[row[0]] = {"value": _real(row[1]), "unit": row[2]}
    return found, {}


_SHAPES: dict[str, Callable[[Any], tuple[Any, Mapping[str, Any]]]] = {
    "pair": _pair,
    "arrays": _arrays,
    "value": _value,
    "observables": _observables,
}


def _real(data: Any) -> Any:
    if isinstance(data, Tagged) and data.tag in _NO_DATA:
        raise HeroEventError(f"the data of an event is {data.describe()}, which is not resolved: it holds no data")
    return data


def _named(metadata: Mapping[Any, Any]) -> Mapping[str, Any]:
    for key in metadata:
        if not isinstance(key, str):
            raise HeroEventError(f"the metadata of an event have the key {key!r:.60}, which is not a string")
    return metadata


def _described(value: Any) -> str:
    if isinstance(value, Tagged):
        return value.describe()
    if isinstance(value, list):
        return f"a list of {len(value)} ({', '.join(type(each).__name__ for each in value[:4])})"
    return f"a {type(value).__name__}"
