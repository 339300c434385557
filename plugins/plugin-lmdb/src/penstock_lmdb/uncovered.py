"""What was written since the last positions were kept: after a crash it is taken back, since its source repeats it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

_Entry = tuple[str, int, list[tuple[bytes, bytes | None]]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode
_numbers = itertools.count()
_live: set[str] = set()


def new_session() -> str:
    """Return the name of a store that was opened now, by which others see whether it still lives."""
    session = f"{os.getpid()}:{_started(os.getpid())}:{next(_numbers)}"
    _live.add(session)
    return session


def end_session(session: str) -> None:
    """Say that this store was closed."""
    _live.discard(session)


def is_alive(session: str) -> bool:
    """Return whether the store of this name is open, in this process or in another one of this machine."""
    process, started, _ = session.split(":")
    if int(process) == os.getpid() and started == _started(os.getpid()):
        return session in _live
    return _started(int(process)) == started


def _started(process: int) -> str:
    """Return when a process was started, in the system's own unit; "" if there is none, or none but a zombie."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in ("Z", "X") else fields[19]  # proc(5): state and starttime
    except OSError:
        pass
    if os.path.isdir("/proc/self"):
        return ""
    try:  # no Linux: only whether it is there
        os.kill(process, 0)
    except OSError:
        return ""
    return "there"


@attrs.frozen
class Uncovered:
    """Note, in the transaction of each write, what undoes it.

    Attributes:
        database: Where entries are, in their order; each has its session, the sequence before it, and the keys with
            the values that were under them.
        session: The store that notes.
    """

    database: Any
    session: str

    def note(self, transaction: Any, sequence: int, before: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Note what was under the keys of a write before it, and the sequence number."""
        if before:
            cursor = transaction.cursor(self.database)
            number = int.from_bytes(cursor.key(), "big") + 1 if cursor.last() else 0
            transaction.put(number.to_bytes(8, "big"), _encode((self.session, sequence, before)), db=self.database)

    def clear(self, transaction: Any) -> None:
        """Forget what this session has noted: positions cover it."""
        for key, (session, _, _) in self._entries(transaction):
            if session == self.session:
                transaction.delete(key, db=self.database)

    def take_abandoned(self, transaction: Any) -> list[tuple[int, list[tuple[bytes, bytes | None]]]]:
        """Return, and forget, what sessions that live no more have noted, the last first."""
        found = [(key, entry) for key, entry in self._entries(transaction) if not is_alive(entry[0])]
        for key, _ in found:
            transaction.delete(key, db=self.database)
        return [(sequence, before) for _, (_, sequence, before) in reversed(found)]

    def _entries(self, transaction: Any) -> list[tuple[bytes, _Entry]]:
        if self.database is None:
            return []
        return [(bytes(key), _decode(value)) for key, value in transaction.cursor(self.database)]
