"""Parts of an iterator of coordinates: sequences, kept generators, counters, and products of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import count, product
from typing import Any

from penstock.coords.coordinates import DataCoordinates, axis_name, axis_value
from penstock.errors import CoordinatesError
from penstock.short_text import short


class Known:
    """A sequence of items: coordinates, or the values of one axis."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = tuple(items)
        self._set = frozenset(self._items)

    def __repr__(self) -> str:
        return short(self._items[0] if len(self._items) == 1 else list(self._items))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def might_produce(self, item: Any) -> bool | None:
        return item in self._set

    def empty(self) -> bool:
        return not self._items

    def finite(self) -> bool:
        return True


class Range:
    """An axis that is a range: no item is kept."""

    def __init__(self, values: range) -> None:
        self._values = values

    def __repr__(self) -> str:
        return repr(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def might_produce(self, item: Any) -> bool | None:
        return type(item) is int and item in self._values

    def empty(self) -> bool:
        return not self._values

    def finite(self) -> bool:
        return True


class Count:
    """An infinite axis, `itertools.count(start, step)`; two items are consumed from it."""

    def __init__(self, name: str, values: Iterator[Any]) -> None:
        self._start = int(axis_value(name, next(values)))
        self._step = int(axis_value(name, next(values))) - self._start

    def __repr__(self) -> str:
        return f"count({self._start}, {self._step})"

    def __iter__(self) -> Iterator[Any]:
        return count(self._start, self._step)

    def might_produce(self, item: Any) -> bool | None:
        if type(item) is not int:
            return False
        steps = item - self._start
        if not self._step:
            return not steps
        return steps % self._step == 0 and steps // self._step >= 0

    def empty(self) -> bool:
        return False

    def finite(self) -> bool:
        return False


class Remembered:
    """The items of a generator, kept as it is consumed; any thread may continue it."""

    def __init__(self, items: Iterator[Any], check: Callable[[int, Any], Any]) -> None:
        self._source, self._check = items, check
        self._items: list[Any] = []
        self._set: set[Any] = set()
        self._end: BaseException | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self._source).__name__}>"

    def __iter__(self) -> Iterator[Any]:
        index = 0
        while index < len(self._items) or self._more(index):
            yield self._items[index]
            index += 1

    def _more(self, index: int) -> bool:
        with self._lock:
            if self._end is None and index >= len(self._items):
                try:
                    item = self._check(index, next(self._source))
                    self._items.append(item)
                    self._set.add(item)
                except Exception as error:  # the user's generator may raise anything: raised again in the next loop
                    self._end = error
            if index < len(self._items):
                return True
            if isinstance(self._end, StopIteration):
                return False
            assert self._end is not None
            raise self._end

    def might_produce(self, item: Any) -> bool | None:
        if item in self._set:
            return True
        return False if isinstance(self._end, StopIteration) else None

    def empty(self) -> bool:
        return not self._items and isinstance(self._end, StopIteration)

    def finite(self) -> bool:
        return self._end is not None


class Product:
    """Every combination of the values of some axes; the last axis changes fastest."""

    def __init__(self, axes: Mapping[str, Any]) -> None:
        self._axes: dict[str, Any] = {}
        for name, values in axes.items():
            axis = _values(axis_name(name), values)
            if isinstance(axis, Count) and self._axes:
                raise CoordinatesError(
                    f"axis {name!r}: is infinite, so that the axes before it would never change; put it first"
                )
            self._axes[name] = axis

    def __repr__(self) -> str:
        return ", ".join(f"{name}={axis!r}" for name, axis in self._axes.items())

    def __iter__(self) -> Iterator[DataCoordinates]:
        if not self._axes:
            yield DataCoordinates()
            return
        (first, values), *others = self._axes.items()
        names = [name for name, _ in others]
        for value in values:
            for rest in _combinations([axis for _, axis in others]):
                yield DataCoordinates({first: value, **dict(zip(names, rest, strict=True))})
            if any(axis.empty() for _, axis in others):  # else an infinite first axis would loop without a result
                return

    def might_produce(self, item: DataCoordinates) -> bool | None:
        if item.keys() != self._axes.keys() or any(axis.empty() for axis in self._axes.values()):
            return False
        unknown = False
        for name, axis in self._axes.items():
            answer = axis.might_produce(item[name])
            if answer is False:
                return False
            unknown = unknown or answer is None
        return None if unknown else True

    def empty(self) -> bool:
        return any(axis.empty() for axis in self._axes.values())

    def finite(self) -> bool:
        return self.empty() or all(axis.finite() for axis in self._axes.values())


def _combinations(axes: list[Any]) -> Iterator[tuple[Any, ...]]:
    if all(isinstance(axis, Known) for axis in axes):
        return product(*axes)
    first, *others = axes  # lazily: itertools.product would first collect axes that may be infinite
    return ((value, *rest) for value in first for rest in _combinations(others))


def _values(name: str, values: Any) -> Any:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        return Known([axis_value(name, values)])
    if isinstance(values, range):
        return Range(values)
    if isinstance(values, count):
        return Count(name, values)
    if isinstance(values, Collection):
        return Known([axis_value(name, value) for value in values])
    return Remembered(iter(values), lambda _, value: axis_value(name, value))
