"""The lmdb store: whole records by key in one LMDB file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs

from penstock.codec import decode, encode_bytes
from penstock.coords import DataCoordinates
from penstock.errors import (
    CannotGetObjectError,
    CodecError,
    ObjectNotFoundError,
    RecordExistsError,
    StoreError,
    TemplateError,
)
from penstock.record import Record
from penstock.store import Key
from penstock.templates import Template, is_template
from penstock_lmdb.environment import Environment, Transaction

_KEYS_AT_ONCE = 1000
_SHOWN = 3
_LONGEST_KEY = 511  # LMDB's, as it is built for Python


@attrs.define
class _Opened:
    environment: Environment
    template: Template


@attrs.define(kw_only=True)
class LmdbRecordStore:
    """Keep whole records (data, channel, seq, time, coordinates, metadata, parent) by key in one LMDB file.

    Each `write` is one transaction: what it wrote is seen by readers in this and in other processes when it returns,
    and is there after `kill -9`, whole. What a power cut does is up to `flush_each`. One process should write; more
    wait for each other. The file must lie on a local disk, as LMDB demands.

    Reading may happen in any thread. A process opens a file once; a fork must open its own.

    Attributes:
        path: A file if it ends in ".lmdb" (its lock file lies beside it), else a directory. Made if missing.
        key: Template of a record's key; at most 511 bytes in UTF-8. Keys are kept in the order of these bytes.
        when_exists: What to do when a key is taken. "error" raises RecordExistsError, except for the very same record
            byte for byte, which a source repeats after a crash: it counts as written. "skip" keeps the old one
            and drops the new; "replace" overwrites.
        readonly: True opens an existing one to read, also while another process writes to it.
        map_size: Bytes to reserve in memory at first; doubles when full. It takes no room on the disk.
        max_size: Bytes that the file never exceeds; None for no limit. When it is reached, `write` raises a
            StoreError that can be retried, since deleting makes room.
        flush_each: "write" flushes data with every `write`; a power cut undoes at most what followed the last
            `sync`. "sync" flushes only in `sync`; faster, and as safe against `kill -9`, but a power cut between two
            syncs may damage the whole file where the file system reorders writes.
    """

    takes: ClassVar[str] = "any"

    path: Path = attrs.field(converter=Path)
    key: str = attrs.field(default="{{ channel }}/{{ '%012d' % seq }}", validator=is_template)
    when_exists: Literal["error", "replace", "skip"] = attrs.field(
        default="error", validator=attrs.validators.in_(("error", "replace", "skip"))
    )
    readonly: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    map_size: int = attrs.field(default=1 << 28, validator=[attrs.validators.instance_of(int), attrs.validators.ge(1)])
    max_size: int | None = attrs.field(
        default=None,
        validator=attrs.validators.optional([attrs.validators.instance_of(int), attrs.validators.ge(1 << 16)]),
    )
    flush_each: Literal["write", "sync"] = attrs.field(
        default="write", validator=attrs.validators.in_(("write", "sync"))
    )
    _opened: _Opened | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Open the file, or make it.

        Raises:
            TemplateError: `key` cannot be compiled.
            CannotConnectToStoreError: it cannot be opened, is no LMDB file, or is missing and `readonly`.
        """
        template = Template(self.key)
        environment = Environment(
            self.path,
            where=self._where,
            readonly=self.readonly,
            map_size=self.map_size if self.max_size is None else min(self.map_size, self.max_size),
            max_size=self.max_size,
            flush_commits=self.flush_each == "write",
        )
        self._opened = _Opened(environment, template)

    def write(self, records: Sequence[Record]) -> None:
        """Write all of them in one transaction, except those that are at fault themselves.

        Raises:
            RecordExistsError: keys were taken; `failed` names the records, the others were written.
            StoreError: a record cannot be encoded or has no key (not retryable; `failed`), or the file or the disk is
                full (retryable; `failed` is empty and nothing was written).
        """
        opened = self._get_opened()
        failed: list[tuple[Record, BaseException]] = []
        items: list[tuple[Record, bytes, bytes]] = []
        for record in records:
            try:
                items.append((record, self._key_bytes(opened, record), encode_bytes(record)))
            except (CodecError, TemplateError) as error:
                own = StoreError(f"{self._where}: record {_name_of(record)}: {error}", retryable=False)
                own.__cause__ = error
                failed.append((record, own))
            except StoreError as error:
                failed.append((record, error))
        if items:
            size_bytes = sum(len(value) for _, _, value in items)
            failed += opened.environment.change(lambda txn: self._put(txn, items), size_bytes=size_bytes)
        if failed:
            raise self._error(failed, len(records))

    def sync(self) -> None:
        self._get_opened().environment.sync()

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.environment.close()

    def key_of(self, record: Record) -> Key:
        return self._key_bytes(self._get_opened(), record).decode()

    def get(self, key: Key) -> Record:
        """Return the record of this key; its arrays are copies of their own and may be changed.

        Raises ObjectNotFoundError, or CannotGetObjectError if what is there is no record.
        """
        wanted = _lookup(key)
        view = self._get_opened().environment.read(lambda txn: _copied(txn.get(wanted))) if wanted else None
        if view is None:
            raise ObjectNotFoundError(f"{self._where}: holds nothing of key {key!r}")
        try:
            return decode(view)
        except CodecError as error:
            raise CannotGetObjectError(f"{self._where}: what is under key {key!r} is no record: {error}") from error

    def keys(self, **coords: Any) -> Iterator[Key]:
        """Yield the keys in their order (that of their UTF-8 bytes); those whose coordinates match, if any are given.

        It reads in steps: what is written or deleted meanwhile may be in or not, but nothing comes twice.
        """
        opened = self._get_opened()
        wanted = DataCoordinates(coords) if coords else None
        return self._keys(opened, wanted)

    def __contains__(self, key: object) -> bool:
        wanted = _lookup(key)
        if not wanted:
            return False
        return self._get_opened().environment.read(lambda txn: txn.get(wanted) is not None)

    def __len__(self) -> int:
        return self._get_opened().environment.count()

    def delete(self, key: Key) -> None:
        wanted = _lookup(key)
        if not wanted or not self._get_opened().environment.change(lambda txn: txn.delete(wanted), essential=True):
            raise ObjectNotFoundError(f"{self._where}: holds nothing of key {key!r}")

    def replace(self, key: Key, record: Record) -> None:
        """Put this record in the place of the one of this key, in one transaction. Raises ObjectNotFoundError.

        The key stays, whatever the template would make of the new record.
        """
        wanted = _lookup(key)
        try:
            value = encode_bytes(record)
        except CodecError as error:
            raise StoreError(f"{self._where}: record {_name_of(record)}: {error}", retryable=False) from error

        def put(txn: Transaction) -> bool:
            return txn.get(wanted) is not None and bool(txn.put(wanted, value))

        if not wanted or not self._get_opened().environment.change(put, size_bytes=len(value)):
            raise ObjectNotFoundError(f"{self._where}: holds nothing of key {key!r}")

    def sync_with(self, positions: Mapping[str, Any]) -> None:
        """Make everything written, and then these positions, durable; never the positions without the records.

        After a crash between `write` and this, records may be there that the positions do not cover. The source then
        repeats them under the same keys, which `when_exists` "error" takes for what they are.
        """
        environment, value = self._get_opened().environment, encode_bytes(Record(dict(positions)))
        environment.change(lambda txn: environment.put_positions(txn, value), essential=True)
        self.sync()

    def positions(self) -> Mapping[str, Any]:
        kept = self._get_opened().environment.positions()
        if kept is None:
            return {}
        positions: Mapping[str, Any] = decode(kept).data
        return positions

    @property
    def _where(self) -> str:
        return f"LmdbRecordStore {str(self.path)!r}"

    def _get_opened(self) -> _Opened:
        if self._opened is None:
            raise StoreError(f"{self._where}: is not open; call open() first", retryable=False)
        return self._opened

    def _key_bytes(self, opened: _Opened, record: Record) -> bytes:
        key = opened.template.render(record)
        try:
            encoded = key.encode()
        except UnicodeEncodeError as error:
            raise StoreError(
                f"{self._where}: key {key!r} cannot be written as UTF-8: {error}", retryable=False
            ) from error
        if not 0 < len(encoded) <= _LONGEST_KEY:
            raise StoreError(
                f"{self._where}: record {_name_of(record)}: its key {key[:60]!r}… has {len(encoded)} bytes, but 1 to "
                f"{_LONGEST_KEY} are possible; change the key template {self.key!r}",
                retryable=False,
            )
        return encoded

    def _put(
        self, txn: Transaction, items: Sequence[tuple[Record, bytes, bytes]]
    ) -> list[tuple[Record, BaseException]]:
        failed: list[tuple[Record, BaseException]] = []
        for record, key, value in items:
            if txn.put(key, value, overwrite=self.when_exists == "replace") or self.when_exists == "skip":
                continue
            if txn.get(key) == value:
                continue  # the very same record: a source that repeats after a crash
            message = f"{self._where}: record {_name_of(record)}: key {key.decode()!r} is taken; make the key template "
            message += (
                f"{self.key!r} tell records apart (by channel and seq), or set when_exists to 'skip' or 'replace'"
            )
            failed.append((record, RecordExistsError(message)))
        return failed

    def _error(self, failed: list[tuple[Record, BaseException]], count: int) -> StoreError:
        message = str(failed[0][1])
        if count > 1:
            shown = "; ".join(str(error).removeprefix(f"{self._where}: ") for _, error in failed[:_SHOWN])
            more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
            message = f"{self._where}: {len(failed)} of {count} records were not written: {shown}{more}"
        kind = RecordExistsError if all(isinstance(error, RecordExistsError) for _, error in failed) else StoreError
        return kind(message, failed=failed, retryable=False)

    def _keys(self, opened: _Opened, wanted: DataCoordinates | None) -> Iterator[Key]:
        last = b""
        while True:
            after = last
            found, last = opened.environment.read(lambda txn: _page(txn, after, wanted))  # noqa: B023 - called at once
            yield from found
            if not last:
                return


def _page(txn: Transaction, after: bytes, wanted: DataCoordinates | None) -> tuple[list[Key], bytes]:
    found: list[Key] = []
    cursor = txn.cursor()
    there = cursor.set_range(after) if after else cursor.first()
    if there and bytes(cursor.key()) == after:
        there = cursor.next()
    for _ in range(_KEYS_AT_ONCE):
        if not there:
            return found, b""
        after = bytes(cursor.key())
        if wanted is None or _matches(cursor.value(), wanted):
            found.append(after.decode())
        there = cursor.next()
    return found, after


def _matches(value: memoryview, wanted: DataCoordinates) -> bool:
    try:
        return decode(value).coords.matches(wanted)
    except CodecError:
        return False  # `get` says what is wrong with it


def _lookup(key: object) -> bytes:
    # Empty for what cannot be a key, which is then not found.
    encoded = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else b""
    return encoded if len(encoded) <= _LONGEST_KEY else b""


def _copied(view: memoryview | None) -> bytearray | None:
    return None if view is None else bytearray(view)


def _name_of(record: Record) -> str:
    return f"{record.channel or '(no channel)'}/{record.seq}"


LmdbStore = LmdbRecordStore
"""The name that it had before `LMDBStore` came beside it."""
