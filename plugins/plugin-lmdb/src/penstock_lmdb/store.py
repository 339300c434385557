"""The lmdb store: complete records by key in one LMDB file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs

from penstock.arguments import checks_arguments, checks_arguments_besides
from penstock.codec import decode, encode_bytes
from penstock.errors import (
    CannotGetObjectError,
    CodecError,
    ConfigError,
    ObjectNotFoundError,
    RecordExistsError,
    StoreError,
)
from penstock.record import Record
from penstock.store import Key
from penstock.templates import Template, is_template
from penstock.validators import at_least, flag, one_of, or_none
from penstock_lmdb.batch import Failed, prepare
from penstock_lmdb.environment import Environment
from penstock_lmdb.naming import KeyBy, Naming, lookup, name_of, shown
from penstock_lmdb.query import Order, Query, Reader
from penstock_lmdb.record_table import RecordTable
from penstock_lmdb.subscription import ALL_KINDS, Event, Subscription, Subscriptions, Wanted, wanted

_SHOWN = 3


@attrs.define
class _Opened:
    environment: Environment
    naming: Naming
    table: RecordTable
    subscriptions: Subscriptions


@checks_arguments
@attrs.define(kw_only=True)
class LmdbRecordStore:
    """Keep complete records (data, channel, seq, time, coordinates, metadata, parent) by key in one LMDB file.

    Each `write` is one transaction: when it returns, readers in this and in other processes see its records, which
    survive `kill -9`. `flush_each` decides whether they survive a power cut. One process should write; several wait
    for each other. The file must be on a local disk, as LMDB demands.

    In a run the sources' positions are kept with the records. When the store is opened for a run after a crash, later
    records are removed, since a source that can seek repeats them: each record is stored once, also with
    `key_by="sequence"`.

    Reading may happen in any thread. A process opens a file once; a fork must open its own.

    Attributes:
        path: A file if it ends in ".lmdb" (with its lock file beside it), else a directory. Made if missing.
        key: Template of a record's key; at most 511 bytes in UTF-8. Keys are kept in the order of these bytes.
        when_exists: The action for a key that exists. "error" raises RecordExistsError, except for the same record byte
            for byte, which a source repeats after a crash: it counts as written. "skip" keeps the old one
            and drops the new; "replace" overwrites.
        readonly: True opens an existing file for reading, also while another process writes to it, and an archive whose
            lock file cannot be written.
        map_size: Bytes to reserve in memory at first; doubles when full. It takes no room on the disk.
        max_size: Bytes that the file never exceeds; None for no limit. When it is reached, `write` raises a
            StoreError that can be retried, since deleting makes room.
        flush_each: "write" flushes data with every `write`; a power cut undoes at most the writes after the last
            `sync`. "sync" flushes only in `sync`; faster, and as safe against `kill -9`, but a power cut between two
            syncs may damage the whole file where the file system reorders writes.
        key_by: "template" makes keys by `key`; "coordinates" by the record's coordinates, one record for each;
            "sequence" numbers the records in order of arrival and never refuses one.
        keep_changes: The number of changes that the file keeps for subscribers; 0 for none.
    """

    takes: ClassVar[str] = "any"

    path: Path = attrs.field(converter=Path)
    key: str = attrs.field(default="{{ channel }}/{{ '%012d' % seq }}", validator=is_template)
    when_exists: Literal["error", "replace", "skip"] = attrs.field(
        default="error", validator=one_of("error", "replace", "skip")
    )
    readonly: bool = attrs.field(default=False, validator=flag)
    map_size: int = attrs.field(default=1 << 28, validator=at_least(1))
    max_size: int | None = attrs.field(
        default=None,
        validator=or_none(at_least(1 << 16)),
    )
    flush_each: Literal["write", "sync"] = attrs.field(default="write", validator=one_of("write", "sync"))
    key_by: KeyBy = attrs.field(default="template", validator=one_of("template", "coordinates", "sequence"))
    keep_changes: int = attrs.field(default=10_000, validator=at_least(0))
    _opened: _Opened | None = attrs.field(default=None, init=False, repr=False, eq=False)

    # -- the contract of a store -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open or make the file.

        Raises:
            TemplateError: `key` cannot be compiled.
            CannotConnectToStoreError: it cannot be opened, is not an LMDB file, is damaged, or is missing and
                `readonly`.
        """
        naming = Naming(self._where, self.key_by, Template(self.key), self.key)
        environment = Environment(
            self.path,
            where=self._where,
            readonly=self.readonly,
            map_size=self.map_size if self.max_size is None else min(self.map_size, self.max_size),
            max_size=self.max_size,
            flush_commits=self.flush_each == "write",
        )
        try:
            table = RecordTable.of(environment, naming, self.when_exists, self.keep_changes)
            if not self.readonly:
                table.index_old()
        except BaseException:
            environment.close()
            raise
        self._opened = _Opened(environment, naming, table, Subscriptions())

    def write(self, records: Sequence[Record]) -> None:
        """Write all records in one transaction, except those that are refused.

        Raises:
            RecordExistsError: keys exist; `failed` names the records, the others were written.
            StoreError: a record cannot be encoded or has no key (not retryable; `failed`), or the file or the disk is
                full (retryable; `failed` is empty and nothing was written).
        """
        opened = self._get_opened()
        batch, failed = prepare(records, opened.naming)
        if batch.items:
            failed += opened.environment.change(lambda txn: opened.table.write(txn, batch), size_bytes=batch.size_bytes)
        if failed:
            raise self._error(failed, len(records))

    def sync(self) -> None:
        opened = self._get_opened()
        opened.table.cover(None)
        opened.environment.sync()

    def close(self) -> None:
        opened = self._opened
        if opened is None:
            return
        if opened.environment.is_held:
            raise StoreError(f"{self._where}: cannot be closed inside reading(); end the block first", retryable=False)
        self._opened = None
        opened.subscriptions.end()
        try:
            opened.table.end()
        finally:
            opened.environment.close()

    # -- reading -----------------------------------------------------------------------------------------------------

    def key_of(self, record: Record) -> Key:
        opened = self._get_opened()
        if self.key_by != "sequence":
            return opened.naming.key(record).decode()
        return shown(opened.environment.read(lambda txn: opened.table.sequence_of(txn, record)))

    def get(self, key: Key) -> Record:
        """Return the record of this key.

        Its arrays are copies and may be changed; inside `reading()` they are read-only views of the
        file, valid until the block ends.

        Raises ObjectNotFoundError, or CannotGetObjectError if the value is not a record.
        """
        return self._decode(key, self.raw(key))

    def raw(self, key: Key) -> bytearray | memoryview:
        """Return the bytes of the record of this key, as `get` does: a copy, or a view inside `reading()`."""
        environment = self._get_opened().environment
        wanted = lookup(key)
        view: Any = None
        if wanted and environment.is_held:
            view = environment.read(lambda txn: txn.get(wanted))
        elif wanted:
            view = environment.read(lambda txn: _copied(txn.get(wanted)))
        if view is None:
            raise ObjectNotFoundError(f"{self._where}: holds nothing of key {key!r}")
        found: bytearray | memoryview = view
        return found

    def get_many(self, keys: Iterable[Key], *, missing: Literal["raise", "none"] = "raise") -> list[Record | None]:
        """Return the records of these keys, as many and in their order, all of one moment.

        Args:
            keys: The keys; one may come more than once.
            missing: The action for keys without a record: "raise" an ObjectNotFoundError that names them, or return
                None in their places.
        """
        wanted = list(keys)
        environment = self._get_opened().environment
        found = environment.read(lambda txn: [_copied(txn.get(lookup(key))) if lookup(key) else None for key in wanted])
        gone = [key for key, value in zip(wanted, found, strict=True) if value is None]
        if gone and missing == "raise":
            named = ", ".join(map(repr, gone[:_SHOWN])) + (f" and {len(gone) - _SHOWN} more" if gone[_SHOWN:] else "")
            raise ObjectNotFoundError(f"{self._where}: holds nothing of key {named}")
        return [None if value is None else self._decode(key, value) for key, value in zip(wanted, found, strict=True)]

    def keys(self, **coords: Any) -> Iterator[Key]:
        """Yield the keys in the order of their UTF-8 bytes; with coordinates, those of the records that match.

        A coordinate is a value, or a slice: `keys(channel="DAPI", time=slice(0, 10))`. It reads in steps:
        concurrent changes may or may not be included, but no key comes twice.
        """
        return self.query(coords)

    def query(
        self,
        coords: Mapping[str, Any] | None = None,
        *,
        prefix: str = "",
        from_ns: int | None = None,
        to_ns: int | None = None,
        order: Order = "key",
    ) -> Iterator[Key]:
        """Yield the keys of the records that meet all conditions, found by ordered keys.

        Args:
            coords: Axes with a value, or with a slice whose start is inclusive and whose stop is exclusive.
            prefix: The beginning of the key.
            from_ns: Earliest time, in nanoseconds since 1970-01-01 UTC.
            to_ns: The time that all lie before.
            order: That of the "key", or of "time" and then of the key.

        Raises:
            CoordinatesError: an axis, a value or a slice is invalid.
            ConfigError: a prefix, a time or an order cannot be one.
        """
        if order not in ("key", "time"):
            raise ConfigError(f"{self._where}: order={order!r} must be 'key' or 'time'")
        query = Query.of(coords or {}, prefix, from_ns, to_ns)
        return map(shown, Reader(self._get_opened().environment).keys(query, order))

    def reading(self) -> contextlib.AbstractContextManager[Any]:
        """Read in a block: all reads of this thread see the file as it is now, and `get` returns views without a copy.

        The views are valid until the block ends, not later. Keep blocks short: the file grows while one is open and
        others write. The block itself may write, unless the file must grow then.
        """
        return self._get_opened().environment.reading()

    def __contains__(self, key: object) -> bool:
        wanted = lookup(key)
        if not wanted:
            return False
        return self._get_opened().environment.read(lambda txn: txn.get(wanted) is not None)

    def __len__(self) -> int:
        return self._get_opened().environment.count()

    # -- changing ----------------------------------------------------------------------------------------------------

    def delete(self, key: Key) -> None:
        wanted, opened = lookup(key), self._get_opened()
        if not wanted or not opened.environment.change(lambda txn: opened.table.delete(txn, wanted), essential=True):
            raise ObjectNotFoundError(f"{self._where}: holds nothing of key {key!r}")

    def replace(self, key: Key, record: Record) -> None:
        """Replace the record of this key, in one transaction. Raises ObjectNotFoundError.

        The key stays, even if the template would make another one of the new record.
        """
        wanted, opened = lookup(key), self._get_opened()
        try:
            value = encode_bytes(record)
        except CodecError as error:
            raise StoreError(f"{self._where}: record {name_of(record)}: {error}", retryable=False) from error
        if not wanted or not opened.environment.change(
            lambda txn: opened.table.replace(txn, wanted, record, value), size_bytes=len(value)
        ):
            raise ObjectNotFoundError(f"{self._where}: holds nothing of key {key!r}")

    # -- subscribing -------------------------------------------------------------------------------------------------

    @checks_arguments_besides("since")
    def subscribe(
        self, callback: Callable[[Key], None], pattern: str = "*", *, since: int | None = None, **coords: Any
    ) -> Callable[[], None]:
        """Call `callback` with the key of each new record that matches; return a function that ends it.

        It is called in a thread of its own, for writes of any process, in order. See `watch`.
        """
        return self._follow(wanted(pattern, coords, frozenset(("put",))), lambda event: callback(str(event.key)), since)

    @checks_arguments_besides("since")
    def watch(
        self, callback: Callable[[Event], None], pattern: str = "*", *, since: int | None = None, **coords: Any
    ) -> Callable[[], None]:
        """Call `callback` with each put, replace and delete that matches; return a function that ends it.

        Args:
            callback: Called in a thread of its own, in the order of the changes. If it raises, that is logged.
            pattern: One of `fnmatch` for the key or the channel.
            since: The position of an event: all later ones are reported first. None: only new events.
            coords: Values or ranges that the coordinates must match; for a delete, those of the deleted object.

        Raises:
            StoreError: the changes after `since` have been forgotten (see `keep_changes`), or `since` is not a position
                of this file.
        """
        return self._follow(wanted(pattern, coords, ALL_KINDS), callback, since)

    def last_change(self) -> int:
        """Return the position of the last change of the file; 0 if there was none."""
        opened = self._get_opened()
        return opened.environment.read(opened.table.log.last)

    def _follow(self, what: Wanted, tell: Callable[[Event], None], since: int | None) -> Callable[[], None]:
        opened = self._get_opened()
        if not (self.readonly or self.keep_changes):
            raise StoreError(
                f"{self._where}: keeps no changes that could be reported; set keep_changes above 0", retryable=False
            )
        return opened.subscriptions.add(Subscription(opened.environment, opened.table.log, what, tell, since))

    # -- positions ---------------------------------------------------------------------------------------------------

    def sync_with(self, positions: Mapping[str, Any]) -> None:
        """Make everything written and these positions durable, in one transaction that covers both.

        Later writes are removed if the process dies before the next call: `positions` removes them.
        """
        opened = self._get_opened()
        opened.table.cover(dict(positions))
        opened.environment.sync()

    def positions(self) -> Mapping[str, Any]:
        """Return the positions of the last `sync_with`, or an empty mapping.

        Records written after them by a store whose process has died are removed first, unless this is read-only.
        """
        opened = self._get_opened()
        if not self.readonly:
            opened.table.begin_covering()
        kept = opened.environment.positions()
        if kept is None:
            return {}
        positions: Mapping[str, Any] = decode(kept).data
        return positions

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"LmdbRecordStore {str(self.path)!r}"

    def _get_opened(self) -> _Opened:
        if self._opened is None:
            raise StoreError(f"{self._where}: is not open; call open() first", retryable=False)
        return self._opened

    def _decode(self, key: Key, value: Any) -> Record:
        try:
            return decode(value)
        except CodecError as error:
            raise CannotGetObjectError(f"{self._where}: the value of key {key!r} is not a record: {error}") from error

    def _error(self, failed: Failed, count: int) -> StoreError:
        message = str(failed[0][1])
        if count > 1:
            shown = "; ".join(str(error).removeprefix(f"{self._where}: ") for _, error in failed[:_SHOWN])
            more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
            message = f"{self._where}: {len(failed)} of {count} records were not written: {shown}{more}"
        kind = RecordExistsError if all(isinstance(error, RecordExistsError) for _, error in failed) else StoreError
        return kind(message, failed=failed, retryable=False)


def _copied(view: memoryview | None) -> bytearray | None:
    return None if view is None else bytearray(view)


LmdbStore = LmdbRecordStore
"""Its name before `LMDBStore` was added."""
