"""Writes since the last positions were kept: after a crash they are undone, since their source repeats them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from penstock.processes import start_of

_Entry = tuple[str, int, list[tuple[bytes, bytes | None]]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode
_numbers = itertools.count()
_live: set[str] = set()


def new_session() -> str:
    """Return the name of a store that was opened now, with which others can check whether it is still open."""
    session = f"{os.getpid()}:{start_of(os.getpid())}:{next(_numbers)}"
    _live.add(session)
    return session


def end_session(session: str) -> None:
    """Note that this store was closed."""
    _live.discard(session)


def is_alive(session: str) -> bool:
    """Return whether the store of this name is open, in this process or in another one of this machine."""
    process, started, _ = session.split(":")
    if int(process) == os.getpid() and started == start_of(os.getpid()):
        return session in _live
    return start_of(int(process)) == started


@attrs.frozen
class Uncovered:
    """Note, in the transaction of each write, the data to undo it.

    Attributes:
        database: The entries, in their order; each has its session, the sequence before it, and the keys with their
            earlier values.
        session: The store that writes the notes.
    """

    database: Any
    session: str

    def note(self, transaction: Any, sequence: int, before: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Note the earlier values of the keys of a write, and the sequence number."""
        if before:
            cursor = transaction.cursor(self.database)
            number = int.from_bytes(cursor.key(), "big") + 1 if cursor.last() else 0
            transaction.put(number.to_bytes(8, "big"), _encode((self.session, sequence, before)), db=self.database)

    def clear(self, transaction: Any) -> None:
        """Forget the notes of this session: positions cover its writes."""
        for key, (session, _, _) in self._entries(transaction):
            if session == self.session:
                transaction.delete(key, db=self.database)

    def take_abandoned(self, transaction: Any) -> list[tuple[int, list[tuple[bytes, bytes | None]]]]:
        """Return, and forget, the notes of dead sessions, the last first."""
        found = [(key, entry) for key, entry in self._entries(transaction) if not is_alive(entry[0])]
        for key, _ in found:
            transaction.delete(key, db=self.database)
        return [(sequence, before) for _, (_, sequence, before) in reversed(found)]

    def _entries(self, transaction: Any) -> list[tuple[bytes, _Entry]]:
        if self.database is None:
            return []
        return [(bytes(key), _decode(value)) for key, value in transaction.cursor(self.database)]
