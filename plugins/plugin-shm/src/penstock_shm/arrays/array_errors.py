"""The errors of shared arrays; each derives from the built-in error that a caller would expect."""

from __future__ import annotations

from penstock.errors import CannotConnectToStoreError, PenstockError


class ArrayExistsError(PenstockError, FileExistsError):
    """An array of this name exists already."""


class ArrayNotFoundError(CannotConnectToStoreError, FileNotFoundError):
    """There is no array of this name on this machine, or its file is not an array."""


class ArrayNotConnectedError(PenstockError, ConnectionError):
    """The array was not connected, or has been disconnected."""


class ArrayIndexError(PenstockError, IndexError):
    """The index is out of range, or is not an index."""


class ArrayDataError(PenstockError, ValueError):
    """The data do not fit: another shape, or values that the array's type cannot hold."""


class ArrayTypeError(PenstockError, TypeError):
    """Arrays of this type cannot be shared."""


class LockTimeoutError(PenstockError, TimeoutError):
    """The lock was not released in time; its holder is alive, or stopped."""
