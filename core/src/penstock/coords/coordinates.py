"""DataCoordinates: the axes and values that locate a record."""

from __future__ import annotations

import keyword
import operator
import unicodedata
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from functools import lru_cache
from typing import Any

from penstock.errors import CoordinatesError
from penstock.short_text import short

Value = int | str

# Methods of mappings cannot be axes: `coords.items` must not mean two things.
_METHODS = ("matches", "get", "items", "keys", "values")
_METHODS_OF_DICTS = ("copy", "pop", "popitem", "setdefault", "update", "clear", "fromkeys", "replace")
_RESERVED = frozenset((*_METHODS, *_METHODS_OF_DICTS))


class FrozenCoordinatesError(CoordinatesError, AttributeError, TypeError):
    """These coordinates are in use, as a key or in a record, and cannot be changed any more."""


@lru_cache(maxsize=1024)
def _name(name: object) -> str:
    if not isinstance(name, str):
        raise CoordinatesError(f"axis {name!r}: must be a str, not {type(name).__name__}")
    if not name.isidentifier() or name.startswith("_") or keyword.iskeyword(name):
        raise CoordinatesError(
            f"axis {name[:80]!r}: must be a name that works as an attribute and does not start with '_', as in 'time'"
        )
    if name in _RESERVED:
        raise CoordinatesError(f"axis {name!r}: is the name of a method; choose another one")
    if unicodedata.normalize("NFKC", name) != name:
        raise CoordinatesError(f"axis {name!r}: Python would read it as {unicodedata.normalize('NFKC', name)!r}")
    return str.__str__(name)


def axis_value(name: str, value: object) -> Value:
    """Return the value of an axis as a plain int or str, or raise CoordinatesError."""
    kind = type(value)
    if kind is int or kind is str:
        return value  # type: ignore[return-value]  # mypy cannot follow `type(value)`
    if isinstance(value, str):
        return str.__str__(value)
    if not isinstance(value, bool):
        try:
            return int(operator.index(value))  # type: ignore[arg-type]  # it raises TypeError itself
        except TypeError:
            pass
    raise CoordinatesError(
        f"axis {name!r}: {short(value)} ({kind.__name__}) cannot be a coordinate; use an int or a str"
    )


class DataCoordinates(Mapping[str, Value]):
    """Locate a record: axes and their values, each an int or a str. A hashable mapping.

    `DataCoordinates(time=3, channel="DAPI")` and `DataCoordinates({"time": 3, "channel": "DAPI"})` are the same;
    `coords.time` and `coords["time"]` too. Equal to any mapping with the same axes and values, in any order. Integers
    of numpy become `int`; `bool`, `float` and everything else is refused, since 1.0 and True would be equal to 1.

    Until they are in use, axes can be added, changed and removed: `coords.position = 2`, `coords["position"] = 2`,
    `del coords.position`. Coordinates that were hashed (a key, an item of a set) or are in a record are in use
    permanently, and raise FrozenCoordinatesError instead. A copy is not in use.

    Raises:
        CoordinatesError: an axis is not an identifier, starts with `_`, or is the name of a method; a value is neither
            int nor str; or an axis is passed twice with different values.
    """

    __slots__ = ("_axes", "_hash")
    _axes: dict[str, Value]  # never changed in place, since copies share it
    _hash: int | None  # None until they are in use, then 0 until they are hashed

    def __init__(self, coordinates: Mapping[str, Any] | None = None, /, **axes: Any) -> None:
        checked: dict[str, Value] = {}
        if coordinates is not None:
            if type(coordinates) is DataCoordinates:
                checked = coordinates._axes if not axes else dict(coordinates._axes)
            elif type(coordinates) is dict or isinstance(coordinates, Mapping):  # the first check is much faster
                items = coordinates.items()
                try:
                    for name, value in items:
                        checked[_name(name)] = axis_value(name, value)
                except TypeError:  # a name that cannot be hashed
                    raise CoordinatesError(f"axis {name!r}: must be a str, not {type(name).__name__}") from None
            else:
                raise CoordinatesError(
                    f"coordinates {short(coordinates)}: must be a mapping of axes to values, as in {{'time': 3}}, "
                    f"not {type(coordinates).__name__}"
                )
        for name, value in axes.items():
            plain = axis_value(_name(name), value)
            if checked.setdefault(name, plain) != plain:
                raise CoordinatesError(f"axis {name!r}: is passed twice, as {checked[name]!r} and as {plain!r}")
        _set_axes(self, checked)
        _set_hash(self, None)

    def __getitem__(self, axis: str) -> Value:
        return self._axes[axis]

    def __getattr__(self, axis: str) -> Value:
        if not axis.startswith("_"):
            try:
                return self._axes[axis]
            except KeyError:
                pass
        has = ", ".join(self._axes) if not axis.startswith("_") else ""
        raise AttributeError(f"coordinates have no axis {axis!r}; they have: {has or 'none'}", name=axis, obj=self)

    def __iter__(self) -> Iterator[str]:
        return iter(self._axes)

    def __len__(self) -> int:
        return len(self._axes)

    def __contains__(self, axis: object) -> bool:
        return axis in self._axes

    # Mapping has these too; these are views in C, faster for every record.

    def keys(self) -> KeysView[str]:
        """Return the axes."""
        return self._axes.keys()

    def values(self) -> ValuesView[Value]:
        """Return the values, in the order of the axes."""
        return self._axes.values()

    def items(self) -> ItemsView[str, Value]:
        """Return the axes with their values."""
        return self._axes.items()

    def __eq__(self, other: object) -> bool:
        if type(other) is DataCoordinates:
            return self._axes == other._axes
        if isinstance(other, Mapping):
            return self._axes == dict(other)
        return NotImplemented

    def __hash__(self) -> int:
        value = self._hash
        if not value:
            value = hash(frozenset(self._axes.items()))
            _set_hash(self, value)
        return value

    def matches(self, pattern: Mapping[str, Any] | None = None, /, **axes: Any) -> bool:
        """Return True if every axis of `pattern` has the same value here; other axes are ignored.

        Raises:
            CoordinatesError: the pattern cannot be coordinates.
        """
        if axes or type(pattern) is not DataCoordinates:
            pattern = DataCoordinates(pattern, **axes)
        return pattern._axes.items() <= self._axes.items()

    def __repr__(self) -> str:
        return f"DataCoordinates({', '.join(f'{name}={value!r}' for name, value in self._axes.items())})"

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self._axes]

    def __reduce__(self) -> tuple[Any, ...]:
        return DataCoordinates, (dict(self._axes),)

    def __copy__(self) -> DataCoordinates:
        return DataCoordinates(self)

    def __deepcopy__(self, memo: object) -> DataCoordinates:
        return DataCoordinates(self)

    def __setattr__(self, name: str, value: object) -> None:
        if self._hash is not None:
            raise self._in_use({name: value})
        _set_axes(self, {**self._axes, name: axis_value(axis_name(name), value)})

    def __delattr__(self, name: str) -> None:
        if self._hash is not None:
            raise self._in_use({})
        if name not in self._axes:
            self.__getattr__(name)  # raises the error for a missing axis
        _set_axes(self, {axis: value for axis, value in self._axes.items() if axis != name})

    def __setitem__(self, name: str, value: object) -> None:
        self.__setattr__(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self._axes and self._hash is None:
            raise KeyError(name)
        self.__delattr__(name)

    def _in_use(self, change: Mapping[str, object]) -> FrozenCoordinatesError:
        changed = "".join(f", {name!r}: {value!r}" for name, value in change.items()) or ", …"
        return FrozenCoordinatesError(
            f"{self!r}: in use as a key or in a record, and cannot be changed; make new coordinates: "
            f"DataCoordinates({{**coords{changed}}})"
        )


def axis_name(name: object) -> str:
    """Return the name of an axis as a plain str, or raise CoordinatesError."""
    try:
        return _name(name)
    except TypeError:  # unhashable, from a mapping that is not a dict
        raise CoordinatesError(f"axis {name!r}: must be a str, not {type(name).__name__}") from None


# The slots are set through their descriptors, since __setattr__ refuses.
_set_axes: Callable[[DataCoordinates, dict[str, Value]], None] = vars(DataCoordinates)["_axes"].__set__
_set_hash: Callable[[DataCoordinates, int | None], None] = vars(DataCoordinates)["_hash"].__set__


def freeze(coords: DataCoordinates) -> None:
    """Refuse changes of these coordinates, which are not in use yet, from now on."""
    _set_hash(coords, 0)


Coordinates = DataCoordinates
