"""ObjectID: ids of objects as users write them, and as keys of the file."""

from __future__ import annotations

from typing import Any, Final

from penstock.errors import StoreError

ObjectID = str | bytes
_LONGEST: Final = 511
"""Bytes of the longest key: LMDB's default limit."""


def key_of(obj_id: Any, *, where: str) -> tuple[bytes, bool]:
    """Return the key of an id in the file, and whether the id is bytes rather than text.

    Args:
        obj_id: Text, bytes, or an object with a method `binary`, as the ids of Arrow and Plasma.
        where: Prefix of error messages.

    Raises:
        StoreError: it is of another type, not valid text, empty, or longer than 511 bytes; not retryable.
    """
    if isinstance(obj_id, str):
        try:
            key, is_bytes = obj_id.encode("utf-8", "surrogateescape"), False
        except UnicodeEncodeError as error:
            raise StoreError(f"{where}: id {obj_id!r:.60} is not valid text: {error}", retryable=False) from error
    elif isinstance(obj_id, bytes | bytearray | memoryview):
        key, is_bytes = bytes(obj_id), True
    elif callable(binary := getattr(obj_id, "binary", None)):
        key, is_bytes = bytes(binary()), True
    else:
        raise StoreError(f"{where}: id {obj_id!r} must be a str or bytes, not {type(obj_id).__name__}", retryable=False)
    if not 0 < len(key) <= _LONGEST:
        raise StoreError(
            f"{where}: id {obj_id!r:.60} has {len(key)} bytes, but 1 to {_LONGEST} are possible", retryable=False
        )
    return key, is_bytes


def id_of(key: bytes, is_bytes: bool) -> ObjectID:
    """Return the id of a key, in the type with which it was put."""
    return key if is_bytes else key.decode("utf-8", "surrogateescape")
