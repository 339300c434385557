"""The log of changes within the file: puts, replacements and deletions, each with its position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs
import msgspec

from penstock.errors import StoreError

Kind = Literal["put", "replace", "delete"]
_KINDS: tuple[Kind, ...] = ("put", "replace", "delete")
_PUT = 0
Logged = tuple[Kind, bytes] | tuple[Kind, bytes, bytes]
"""A change to be added: kind and key; for a delete also the part of the record that the log keeps."""

_encode = msgspec.msgpack.Encoder().encode
_LONGEST = 1000
_TRIM_EACH = 64


@attrs.frozen
class Change:
    """One change.

    Attributes:
        position: Its number in the file, from 1; later changes have higher ones.
        kind: "put", "replace" or "delete".
        key: The key or id as bytes.
        remains: Of a delete, the bytes of a record with the name and the coordinates of the one that was deleted; empty
            where these are not known.
    """

    position: int
    kind: Kind
    key: bytes
    remains: bytes = b""


class _Entry(msgspec.Struct, array_like=True):
    kind: int
    key: bytes
    remains: bytes = b""


_decode = msgspec.msgpack.Decoder(list[_Entry]).decode


@attrs.frozen
class ChangeLog:
    """Append changes in the transactions that make them, and read them from a position.

    An entry is a list of changes under the position of its last one, so that many records need one entry. The oldest
    entries are forgotten when there are more than `keep` changes.
    """

    database: Any
    keep: int

    def append(self, transaction: Any, changes: Sequence[Logged]) -> None:
        """Add changes, in their order."""
        if self.database is not None and self.keep:
            self._append(transaction, [(_KINDS.index(change[0]), *change[1:]) for change in changes])

    def append_puts(self, transaction: Any, keys: Iterable[bytes]) -> None:
        """Add puts of new keys; quicker than `append`."""
        if self.database is not None and self.keep:
            self._append(transaction, [(_PUT, key) for key in keys])

    def _append(self, transaction: Any, entries: Sequence[tuple[Any, ...]]) -> None:
        before = last = self.last(transaction)
        for start in range(0, len(entries), _LONGEST):
            entry = entries[start : start + _LONGEST]
            last += len(entry)
            transaction.put(_key(last), _encode(entry), db=self.database, append=True)
        if before // _TRIM_EACH != last // _TRIM_EACH:
            self._trim(transaction, last - self.keep)

    def last(self, transaction: Any) -> int:
        """Return the position of the last change; 0 if there was none."""
        if self.database is None:
            return 0
        cursor = transaction.cursor(self.database)
        return int.from_bytes(cursor.key(), "big") if cursor.last() else 0

    def after(self, transaction: Any, position: int, most: int) -> list[Change]:
        """Return up to about `most` changes after a position, in order.

        Raises:
            StoreError: the next changes have been forgotten. Not retryable.
        """
        found: list[Change] = []
        for last, entry in self._entries(transaction, position):
            first = last - len(entry) + 1
            if not found and first > position + 1:
                raise StoreError(
                    f"changes {position + 1} to {first - 1} have been forgotten; read the whole store, and "
                    f"subscribe from its position {self.last(transaction)}",
                    retryable=False,
                )
            found.extend(
                Change(first + n, _KINDS[each.kind], each.key, each.remains)
                for n, each in enumerate(entry)
                if first + n > position
            )
            if len(found) >= most:
                break
        return found

    def _entries(self, transaction: Any, position: int) -> Iterator[tuple[int, list[_Entry]]]:
        if self.database is None:
            return
        cursor = transaction.cursor(self.database)
        there = cursor.set_range(_key(position + 1))
        while there:
            yield int.from_bytes(cursor.key(), "big"), _decode(cursor.value())
            there = cursor.next()

    def _trim(self, transaction: Any, upto: int) -> None:
        cursor = transaction.cursor(self.database)
        there = cursor.first()
        while there and int.from_bytes(cursor.key(), "big") <= upto:
            there = cursor.delete()  # leads to the next one


def _key(position: int) -> bytes:
    return position.to_bytes(8, "big")


def kept(databases: Mapping[str, Any], keep: int) -> ChangeLog:
    """Return the log of an environment."""
    return ChangeLog(databases["changes"], keep)
