"""The errors of a handler, besides the general ones; each names the coordinates."""

from __future__ import annotations

from typing import Any

from penstock.coords import DataCoordinates
from penstock.errors import ObjectNotFoundError, PenstockError


class DataTimeoutError(PenstockError, TimeoutError):
    """A timeout: no room for a record, no record, or not everything stored in time."""


class _OfCoordinatesError(PenstockError):
    """An error about the data of some coordinates.

    Attributes:
        coords: The coordinates.
    """

    def __init__(self, message: str, coords: DataCoordinates) -> None:
        super().__init__(message)
        self.coords = coords

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.coords)


class DataDiscardedError(_OfCoordinatesError, ObjectNotFoundError):
    """The processor returned nothing for these coordinates: it discarded them, or keeps them for later."""


class DataFailedError(_OfCoordinatesError, RuntimeError):
    """These data were put, but failed for good in the processor or the store, were dropped, or were lost at the end."""
