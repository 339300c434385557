"""DataCoordinatesIterator: coordinates in order, known in advance, finite or not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Self

from penstock.coords.coordinates import DataCoordinates
from penstock.coords.parts import Known, Product, Remembered
from penstock.errors import CoordinatesError
from penstock.short_text import short


class DataCoordinatesIterator:
    """Iterate, any number of times, over coordinates that are known in advance, in order.

    Made from a sequence, a generator, one coordinates, or a pattern; `create` and the class accept the same.

    A pattern, `create(time=range(100), channel=["DAPI", "GFP"])` or a dict of the same, yields every combination,
    the last axis changing fastest; a single value counts as a list of one. `itertools.count()` may be the first
    axis. A sequence may hold coordinates, dicts and other iterators. A generator may be infinite; its items
    are kept, so that they can be iterated again (memory grows with them).

    Each `iter()` starts at the first one, so that loops over the same object can be nested. `next(self)` moves a
    cursor of its own.

    Raises:
        CoordinatesError: an item cannot be coordinates; for a generator, raised when it is reached.
    """

    __slots__ = ("_cursor", "_parts")

    def __init__(self, coordinates: Any = None, /, **axes: Any) -> None:
        self._parts = tuple(_made_of(coordinates, axes))
        self._cursor: Iterator[DataCoordinates] | None = None

    @classmethod
    def create(cls, coordinates: Any = None, /, **axes: Any) -> Self:
        """Make an iterator, as the class itself does."""
        return cls(coordinates, **axes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._parts))})"

    def is_finite(self) -> bool:
        """Return whether it is known to be finite: False for `itertools.count()`, and for an unfinished generator."""
        return all(part.finite() for part in self._parts)

    def __iter__(self) -> Iterator[DataCoordinates]:
        for part in self._parts:
            yield from part

    def __next__(self) -> DataCoordinates:
        if self._cursor is None:
            self._cursor = iter(self)
        return next(self._cursor)

    def might_produce_coordinates(self, coordinates: Mapping[str, Any]) -> bool | None:
        """Return True if these are among them, False if they never will be, None if that cannot be known yet.

        It takes constant time: no coordinates are produced. The answer is None only if a generator that has not ended
        may still yield them.
        """
        wanted = DataCoordinates(coordinates)
        return _any(part.might_produce(wanted) for part in self._parts)


CoordinatesIterator = DataCoordinatesIterator


def _made_of(coordinates: Any, axes: Mapping[str, Any]) -> Iterable[Known | Remembered | Product]:
    if axes:
        if coordinates is not None:
            raise CoordinatesError("pass either coordinates or axes (time=range(3)), not both")
        return [Product(axes)]
    if isinstance(coordinates, DataCoordinatesIterator):
        return coordinates._parts
    if isinstance(coordinates, DataCoordinates):
        return [Known([coordinates])]
    if isinstance(coordinates, Mapping):
        return [Product(coordinates)]
    if isinstance(coordinates, str | bytes) or not isinstance(coordinates, Iterable):
        raise CoordinatesError(
            f"coordinates {short(coordinates)}: pass a sequence or generator of coordinates, one coordinates, or axes "
            f"with their values (time=range(3)), not {type(coordinates).__name__}"
        )
    if not isinstance(coordinates, Collection):
        return [Remembered(iter(coordinates), _coordinates)]
    return _parts(coordinates)


def _any(answers: Iterable[bool | None]) -> bool | None:
    unknown = False
    for answer in answers:
        if answer:
            return True
        unknown = unknown or answer is None
    return None if unknown else False


def _coordinates(index: int, item: Any) -> DataCoordinates:
    if type(item) is DataCoordinates:
        return item
    if not isinstance(item, Mapping):
        raise CoordinatesError(f"item {index}: {short(item)} must be coordinates or a dict, not {type(item).__name__}")
    try:
        return DataCoordinates(item)
    except CoordinatesError as error:
        raise CoordinatesError(f"item {index}: {error}") from None


def _parts(items: Iterable[Any]) -> Iterator[Known | Remembered | Product]:
    known: list[DataCoordinates] = []
    for index, item in enumerate(items):
        if isinstance(item, DataCoordinatesIterator):
            yield Known(known)
            known = []
            yield from item._parts
        else:
            known.append(_coordinates(index, item))
    yield Known(known)
