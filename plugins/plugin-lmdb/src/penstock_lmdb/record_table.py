"""Records in an environment: each list in one transaction, with ordered keys and the data to undo it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from penstock.codec import decode, encode_bytes
from penstock.errors import CodecError, RecordExistsError
from penstock.record import Record
from penstock_lmdb.batch import Batch, Failed, Item
from penstock_lmdb.change_log import ChangeLog, Kind, Logged, kept
from penstock_lmdb.environment import Environment, Transaction, is_behind_all
from penstock_lmdb.index import Index
from penstock_lmdb.naming import Naming, name_of, sequence_key, shown
from penstock_lmdb.object_table import name_key
from penstock_lmdb.object_value import deleted
from penstock_lmdb.uncovered import Uncovered, end_session, new_session

WhenExists = Literal["error", "replace", "skip"]
_SEQUENCE = b"sequence"
_AT_ONCE = 1000
_Written = tuple[Kind, bytes, Record, bytes | None]


@attrs.define
class RecordTable:
    """Change the records of an environment, in transactions that the environment begins and ends.

    Attributes:
        covering: Whether writes are noted until positions cover them.
        committing: Whether positions have been kept in this session.
    """

    environment: Environment
    naming: Naming
    when_exists: WhenExists
    log: ChangeLog
    index: Index
    uncovered: Uncovered
    covering: bool = False
    committing: bool = False
    _scratch: bytearray = attrs.field(factory=bytearray)

    @classmethod
    def of(cls, environment: Environment, naming: Naming, when_exists: WhenExists, keep_changes: int) -> RecordTable:
        """Return the table of an environment."""
        databases = environment.databases
        uncovered = Uncovered(databases["uncovered"], new_session())
        return cls(environment, naming, when_exists, kept(databases, keep_changes), Index(databases), uncovered)

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, transaction: Transaction, batch: Batch) -> Failed:
        """Write a batch; return the records that were refused, each with its error."""
        by_sequence = self.naming.key_by == "sequence"
        first = self._sequence(transaction) if by_sequence else 0
        items = batch.items
        if by_sequence:
            items = [(record, sequence_key(number), value) for number, (record, _, value) in enumerate(items, first)]
        failed: Failed = []
        if batch.is_small and is_behind_all(transaction, [key for _, key, _ in items]):
            # No key exists, and no lookup is needed: this takes half the time of single puts.
            transaction.cursor().putmulti([(key, value) for _, key, value in items], True, False, True)
            there = [(key, record) for record, key, _ in items]
            self.log.append_puts(transaction, (key for key, _ in there))
            before: list[tuple[bytes, bytes | None]] = [(key, None) for _, key, _ in items] if self.covering else []
        else:
            written = self._write_each(transaction, items, failed)
            # Of a key that was put and replaced in one list, the last.
            there = list({key: record for _, key, record, _ in written}.items())
            self.log.append(transaction, [(kind, key) for kind, key, _, _ in written])
            before = [(key, old) for _, key, _, old in written]
        self.index.add(transaction, [(key, record.time_ns, record.coords) for key, record in there])
        if self.covering:
            self.uncovered.note(transaction, first, before)
        if by_sequence:
            self._name(transaction, there)
            transaction.put(_SEQUENCE, b"%d" % (first + len(items)), db=self.index.databases["info"])
        return failed

    def _write_each(self, transaction: Transaction, items: Sequence[Item], failed: Failed) -> list[_Written]:
        """Put the records one by one; return those that were put, and add the others to `failed`."""
        written: list[_Written] = []
        put = transaction.put
        for record, key, given in items:
            value: Any = self._joined(given) if type(given) is list else given
            if put(key, value, True, False):  # dupdata, overwrite
                written.append(("put", key, record, None))
            elif self.when_exists == "replace":
                old = bytes(transaction.get(key))
                self._unindex(transaction, key, old)
                put(key, value)
                written.append(("replace", key, record, old))
            elif self.when_exists == "error" and transaction.get(key) != value:
                failed.append((record, self._exists(record, key)))
        return written

    def _joined(self, parts: Any) -> memoryview:
        """Return the bytes of a large record, in memory that the next one reuses."""
        size = sum(map(len, parts))
        if len(self._scratch) < size:
            self._scratch = bytearray(size)
        target, start = memoryview(self._scratch), 0
        for part in parts:
            end = start + len(part)
            target[start:end] = part
            start = end
        return target[:size]

    def _exists(self, record: Record, key: bytes) -> RecordExistsError:
        message = f"{self.naming.where}: record {name_of(record)}: key {shown(key)!r} is taken; make the key template "
        message += (
            f"{self.naming.text!r} tell records apart (by channel and seq), or set when_exists to 'skip' or 'replace'"
        )
        return RecordExistsError(message)

    def delete(self, transaction: Transaction, key: bytes) -> bool:
        """Delete a record; return False if there was none."""
        found = transaction.get(key)
        if found is None:
            return False
        old = bytes(found)
        record = self._unindex(transaction, key, old)
        transaction.delete(key)
        self.log.append(transaction, [deleted(key, record)])
        if self.covering:
            self.uncovered.note(transaction, self._sequence(transaction), [(key, old)])
        return True

    def replace(self, transaction: Transaction, key: bytes, record: Record, value: bytes) -> bool:
        """Replace a record; return False if there was none."""
        found = transaction.get(key)
        if found is None:
            return False
        old = bytes(found)
        self._unindex(transaction, key, old)
        transaction.put(key, value)
        self._reindex(transaction, key, record)
        self.log.append(transaction, [("replace", key)])
        if self.covering:
            self.uncovered.note(transaction, self._sequence(transaction), [(key, old)])
        return True

    def _unindex(self, transaction: Transaction, key: bytes, old: bytes) -> Record | None:
        try:
            record = decode(old)
        except CodecError:
            return None  # damaged: nothing is known of where it was
        self.index.remove(transaction, key, record)
        names, name = self.index.databases["names"], name_key(record.channel, record.seq)
        if transaction.get(name, db=names) == key:
            transaction.delete(name, db=names)
        return record

    def _reindex(self, transaction: Transaction, key: bytes, record: Record) -> None:
        """Note the key of a record that replaced another."""
        self.index.add(transaction, [(key, record.time_ns, record.coords)])
        if self.naming.key_by == "sequence":
            self._name(transaction, [(key, record)])

    def _name(self, transaction: Transaction, keyed: Sequence[tuple[bytes, Record]]) -> None:
        """Note the keys in sequence of the records of these channels and numbers, the last of each."""
        names = [(name_key(record.channel, record.seq), key) for key, record in keyed]
        transaction.cursor(self.index.databases["names"]).putmulti(sorted(names))

    def _sequence(self, transaction: Transaction) -> int:
        """Return the number of the next record in sequence."""
        found = transaction.get(_SEQUENCE, db=self.index.databases["info"])
        return 0 if found is None else int(bytes(found))

    def sequence_of(self, transaction: Transaction, record: Record) -> bytes:
        """Return the key of the record of this channel and seq; if there is none, the next one."""
        names = self.index.databases["names"]
        found = None if names is None else transaction.get(name_key(record.channel, record.seq), db=names)
        return sequence_key(self._sequence(transaction)) if found is None else bytes(found)

    # -- positions ---------------------------------------------------------------------------------------------------

    def begin_covering(self) -> None:
        """Undo the uncovered writes of dead stores, and note writes from now on."""
        if not self.covering:
            if self.environment.read(lambda txn: txn.stat(self.uncovered.database)["entries"]):
                self.environment.change(self._take_back, essential=True)
            self.covering = True

    def _take_back(self, transaction: Transaction) -> None:
        logged: list[Logged] = []
        for sequence, before in self.uncovered.take_abandoned(transaction):
            for key, old in reversed(before):
                found = transaction.get(key)
                record = None if found is None else self._unindex(transaction, key, bytes(found))
                if old is None:
                    transaction.delete(key)
                    logged.append(deleted(key, record))
                    continue
                transaction.put(key, old)
                logged.append(("replace", key))
                self._reindex(transaction, key, decode(old))
            if self.naming.key_by == "sequence":
                transaction.put(_SEQUENCE, b"%d" % sequence, db=self.index.databases["info"])
        self.log.append(transaction, logged)

    def cover(self, positions: dict[str, Any] | None) -> None:
        """Keep these positions, if any, and forget how to undo earlier writes.

        Sources without positions cannot repeat records: their records are no longer noted.
        """
        if positions is None and not self.covering:
            return
        value = None if positions is None else encode_bytes(Record(positions))

        def put(transaction: Transaction) -> None:
            if value is not None:
                self.environment.put_positions(transaction, value)
            if self.covering:
                self.uncovered.clear(transaction)

        self.environment.change(put, essential=True)
        if positions is not None:
            self.covering = self.committing = bool(positions)

    def end(self) -> None:
        """End the session; its writes stay, unless positions are kept and do not cover them."""
        if self.environment.is_forked:
            return
        try:
            if self.covering and not self.committing:
                self.cover(None)
        finally:
            end_session(self.uncovered.session)

    # -- files of layout 1 -------------------------------------------------------------------------------------------

    def index_old(self) -> None:
        """Add the ordered keys that a file of layout 1 lacks."""
        databases = self.environment.databases
        records, times = self.environment.read(
            lambda txn: (txn.stat(databases["records"])["entries"], txn.stat(databases["times"])["entries"])
        )
        if records and not times:
            self.environment.change(self._index_all)

    def _index_all(self, transaction: Transaction) -> None:
        found: list[tuple[bytes, int, Mapping[str, Any]]] = []
        for key, value in transaction.cursor(self.environment.databases["records"]):
            try:
                record = decode(bytes(value))
            except CodecError:
                continue
            found.append((bytes(key), record.time_ns, record.coords))
            if len(found) >= _AT_ONCE:
                self.index.add(transaction, found)
                found = []
        self.index.add(transaction, found)
