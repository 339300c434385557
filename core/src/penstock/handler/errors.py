"""What a handler raises beside the errors that everybody knows; each names the coordinates."""

from __future__ import annotations

from typing import Any

from penstock.coords import DataCoordinates
from penstock.errors import ObjectNotFoundError, PenstockError


class DataTimeoutError(PenstockError, TimeoutError):
    """There was no room for a record, or it did not come, or not all was stored, within the time."""


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
    """The processor gave nothing for these coordinates: it discarded them, or keeps them for later."""


class DataFailedError(_OfCoordinatesError, RuntimeError):
    """These data were put, but failed for good in the processor or the store, were dropped, or were lost at the end."""
