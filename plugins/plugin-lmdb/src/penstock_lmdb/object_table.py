"""Objects in an environment: put and deleted in one transaction, found by id and by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import attrs

from penstock.codec import decode
from penstock.errors import CodecError
from penstock.record import Record
from penstock_lmdb.change_log import ChangeLog, Kind, Logged
from penstock_lmdb.environment import is_behind_all
from penstock_lmdb.index import Index
from penstock_lmdb.object_value import ID, deleted, name_of

_LONGEST_NAME = 400


@attrs.define
class Put:
    """An object that waits for a commit, or was committed: its bytes, id and name. Not changed after it was made.

    It is not frozen, since one is made for every put, and a frozen attrs class takes three times as long to make.
    """

    value: bytes
    name: str
    number: int
    time_ns: int
    coords: Mapping[str, Any]
    id_is_bytes: bool
    replaces: bool


@attrs.frozen
class ObjectTable:
    """Read and change the objects of an environment, in transactions that others begin and end."""

    databases: Mapping[str, Any]
    log: ChangeLog

    def apply(self, transaction: Any, changes: Mapping[bytes, Put | None]) -> None:
        """Put these objects; None deletes."""
        puts = [(key, put) for key, put in changes.items() if put is not None]
        logged: list[Logged] = []
        if len(puts) == len(changes) and is_behind_all(transaction, [key for key, _ in puts]):
            # New ids are made from the time: nothing is replaced, and nothing has to be looked for.
            transaction.cursor().putmulti([(key, put.value) for key, put in puts], True, False, True)
            logged += [("replace" if put.replaces else "put", key) for key, put in puts]
        else:
            for key, put in changes.items():
                self._change(transaction, key, put, logged)
        Index(self.databases).add(transaction, [(key, put.time_ns, put.coords) for key, put in puts])
        names = [(name_key(put.name, put.number), key) for key, put in puts]
        transaction.cursor(self.databases["names"]).putmulti(sorted(names))
        byte_ids = [(key, b"") for key, put in puts if put.id_is_bytes]
        if byte_ids:
            transaction.cursor(self.databases["byte_ids"]).putmulti(byte_ids)
        self.log.append(transaction, logged)

    def _change(self, transaction: Any, key: bytes, put: Put | None, logged: list[Logged]) -> None:
        if put is None:
            if transaction.get(key) is not None:
                logged.append(deleted(key, self._remove(transaction, key)))
            return
        kind: Kind = "replace" if put.replaces else "put"
        if not transaction.put(key, put.value, overwrite=False):
            self._remove(transaction, key)
            transaction.put(key, put.value)
            kind = "replace"
        logged.append((kind, key))

    def _remove(self, transaction: Any, key: bytes) -> Record | None:
        """Remove an object that is there, and what leads to it; return its record, or None if that is damaged."""
        record = None
        try:
            record = decode(bytes(transaction.get(key)))
        except CodecError:
            pass  # whatever leads to it leads nowhere then
        else:
            Index(self.databases).remove(transaction, key, record)
            names = self.databases["names"]
            for each, owner in self._numbers(transaction, name_of(record)):
                if owner == key:
                    transaction.delete(each, db=names)
        transaction.delete(key, db=self.databases["byte_ids"])
        transaction.delete(key)
        return record

    def _numbers(self, transaction: Any, name: str) -> list[tuple[bytes, bytes]]:
        prefix = _name_prefix(name)
        cursor = transaction.cursor(self.databases["names"])
        found, there = [], cursor.set_range(prefix)
        while there and bytes(cursor.key()).startswith(prefix):
            found.append((bytes(cursor.key()), bytes(cursor.value())))
            there = cursor.next()
        return found

    def find_name(self, transaction: Any, name: str, without: Mapping[bytes, Any]) -> bytes | None:
        """Return the id of the object that was put last under this name, not counting some."""
        if self.databases["names"] is None:
            return None
        prefix = _name_prefix(name)
        cursor = transaction.cursor(self.databases["names"])
        there = cursor.prev() if cursor.set_range(prefix + b"\xff" * 9) else cursor.last()
        while there and bytes(cursor.key()).startswith(prefix):
            key = bytes(cursor.value())
            if key not in without:
                return key
            there = cursor.prev()
        return None

    def keys(self, transaction: Any, after: bytes, most: int) -> list[tuple[bytes, bool]]:
        """Return up to `most` ids after one, in order, and whether each was passed as bytes."""
        byte_ids = self.databases["byte_ids"]
        return [
            (key, byte_ids is not None and transaction.get(key, db=byte_ids) is not None)
            for key, _ in zip(self._keys(transaction, after), range(most), strict=False)
        ]

    def _keys(self, transaction: Any, after: bytes) -> Iterator[bytes]:
        cursor = transaction.cursor(self.databases["records"])
        there = cursor.set_range(after) if after else cursor.first()
        if there and bytes(cursor.key()) == after:
            there = cursor.next()
        while there:
            yield bytes(cursor.key())
            there = cursor.next()


def id_is_bytes(record: Any) -> bool:
    """Return whether the id of the object in a record was passed as bytes."""
    return bool(record.metadata.get(ID))


@lru_cache(maxsize=1024)
def _name_prefix(name: str) -> bytes:
    encoded = name.encode("utf-8", "surrogatepass")  # a name that cannot be kept is asked for all the same
    if len(encoded) > _LONGEST_NAME or b"\0" in encoded:
        return b"\x01" + hashlib.sha256(encoded).digest() + b"\0"
    return b"\x00" + encoded + b"\0"


def name_key(name: str, number: int) -> bytes:
    """Return the key of the entry for a name and number; the entries of a name sort by number."""
    return _name_prefix(name) + (number + (1 << 63)).to_bytes(8, "big")
