"""The errors of shared arrays; each also derives from the built-in error that a caller would expect."""

from __future__ import annotations

from penstock.errors import CannotConnectToStoreError, PenstockError


class ArrayExistsError(PenstockError, FileExistsError):
    """An array of this name already exists and is in use."""


class ArrayNotFoundError(CannotConnectToStoreError, FileNotFoundError):
    """No array of this name exists on this machine, or its file is not an array."""


class ArrayNotConnectedError(PenstockError, ConnectionError):
    """The array was not connected, or has been disconnected."""


class ArrayIndexError(PenstockError, IndexError):
    """The index is out of range, or is not an index."""


class ArrayDataError(PenstockError, ValueError):
    """The data do not fit: another shape, or values that the array's type cannot hold."""


class ArrayTypeError(PenstockError, TypeError):
    """Arrays of this dtype cannot be shared."""


class LockTimeoutError(PenstockError, TimeoutError):
    """The lock was not released in time: its holder is alive, or suspended."""
