"""What can go wrong with a shared array; each is also the built-in error that a caller would expect."""

from __future__ import annotations

from penstock.errors import CannotConnectToStoreError, PenstockError


class ArrayExistsError(PenstockError, FileExistsError):
    """There is an array of this name already."""


class ArrayNotFoundError(CannotConnectToStoreError, FileNotFoundError):
    """There is no array of this name on this machine, or what is there is none."""


class ArrayNotConnectedError(PenstockError, ConnectionError):
    """The array was not connected, or has been disconnected."""


class ArrayIndexError(PenstockError, IndexError):
    """The index lies outside of the array, or is none."""


class ArrayDataError(PenstockError, ValueError):
    """The data do not fit: another shape, or values that the array's type cannot hold."""


class ArrayTypeError(PenstockError, TypeError):
    """Arrays of this type cannot be shared."""


class LockTimeoutError(PenstockError, TimeoutError):
    """The lock was not to be had in time; its holder lives, or is stopped."""
