"""The lmdb source: the records of a file, replayed in the order of time or of keys."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs

from penstock.arguments import checks_arguments
from penstock.codec.encoders import Encoder
from penstock.errors import CannotConnectToStoreError, CannotGetObjectError, CodecError, EndOfSource, SourceError
from penstock.record import Record
from penstock.validators import one_of, or_none, positive
from penstock.whole_files import write_whole
from penstock_lmdb.environment import Environment, Transaction
from penstock_lmdb.file_watch import FileWatch, seconds_until
from penstock_lmdb.index import Index, time_key
from penstock_lmdb.naming import lookup, shown
from penstock_lmdb.object_value import NAME, Values, to_data
from penstock_lmdb.query import Order, Query, follows

_MOST_BYTES = 1 << 24


@attrs.define
class _Opened:
    environment: Environment
    query: Query
    values: Values
    watch: FileWatch
    after: bytes = b""
    position: list[Any] = attrs.field(factory=list)
    began: tuple[float, int] | None = None


@checks_arguments
@attrs.define(kw_only=True)
class LmdbSource:
    """Replay the records of an LMDB file, those of `LmdbRecordStore` and the objects of `LMDBStore`.

    Records come as they were stored. An object becomes a record with its name as channel and its time, and `name` and
    `queue` in its metadata. The arrays are copies. Another process may write to the file meanwhile. Records that are
    damaged, or need an encoder that is not registered, are skipped and counted as rejected.

    It can seek to a position, and with `state` it continues after the committed records.

    Attributes:
        path: The file, or the directory that it lies in.
        order: "time", or that of the bytes of the "key".
        pace: None returns records as fast as they are taken; 1.0 keeps the time between them, 2.0 is twice as fast.
        coords: The records to read: axes with a value or a [start, stop] each, whose stop is exclusive.
        prefix: The beginning of their keys.
        from_ns: Earliest time, in nanoseconds since 1970-01-01 UTC.
        to_ns: The time that all lie before.
        follow: Wait for more at the end, for ever. In the order of time, records that are written later with an earlier
            time than those already returned do not come.
        state: A file that keeps the committed position, so that a later run continues there; None: each starts over.
        encoders: Encoders of objects of your own types.
    """

    gives: ClassVar[str] = "any"
    stays_valid: ClassVar[bool] = True

    path: Path = attrs.field(converter=Path)
    order: Order = attrs.field(default="time", validator=one_of("time", "key"))
    pace: float | None = attrs.field(default=None, validator=or_none(positive))
    coords: Mapping[str, Any] = attrs.field(factory=dict)
    prefix: str = ""
    from_ns: int | None = None
    to_ns: int | None = None
    follow: bool = False
    state: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    encoders: Iterable[Encoder] = ()
    _opened: _Opened | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _rejected: int = attrs.field(default=0, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Open the file. Raises SourceError if it cannot be, or CoordinatesError."""
        coords = {
            axis: slice(*value) if isinstance(value, list | tuple) else value for axis, value in self.coords.items()
        }
        query = Query.of(coords, self.prefix, self.from_ns, self.to_ns)
        try:
            environment = Environment(
                self.path, where=self._where, readonly=True, map_size=0, max_size=None, flush_commits=True
            )
        except CannotConnectToStoreError as error:
            raise SourceError(str(error)) from error
        self._rejected = 0
        self._opened = _Opened(environment, query, Values(tuple(self.encoders)), FileWatch(environment.data_file))
        try:
            if self.order == "time" and not Index(environment.databases).is_there:
                raise SourceError(
                    f"{self._where}: was written by an earlier version, without times in order; open it once with "
                    "LmdbRecordStore, or set order='key'",
                    retryable=False,
                )
            if self.state is not None and self.state.exists():
                self.seek(json.loads(self.state.read_text("utf-8")))
        except ValueError as error:
            self.close()
            raise SourceError(f"{self.state}: not the state of an lmdb source: {error}", retryable=False) from error
        except BaseException:
            self.close()
            raise

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the next records that are due.

        Raises:
            EndOfSource: there are no more, and it does not follow.
            SourceError: the file cannot be read.
        """
        opened = self._get_opened()
        deadline = time.monotonic() + timeout_s
        while True:
            with opened.environment.reading() as transaction:
                records, due = self._take(opened, transaction, max_records)
            if records:
                return records
            if due is None and not self.follow:
                raise EndOfSource(f"{self._where}: there are no more records")
            if time.monotonic() >= deadline:
                return ()
            opened.watch.wait(seconds_until(deadline if due is None else min(deadline, due)))

    def close(self) -> None:
        """Close the file. Any number of times."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.watch.close()
            opened.environment.close()

    def position(self) -> list[Any]:
        """Return the position: the time and the key of the last record that was returned; empty at the beginning."""
        return list(self._get_opened().position)

    def seek(self, position: Any) -> None:
        """Continue after a position."""
        opened = self._get_opened()
        try:
            time_ns, key = position or (0, "")
            after = lookup(key)
            opened.after = (time_key(time_ns) + after if self.order == "time" else after) if position else b""
        except (TypeError, ValueError, OverflowError) as error:
            raise SourceError(
                f"{self._where}: {position!r} is not a position of an lmdb source: {error}", retryable=False
            ) from error
        opened.position, opened.began = list(position or ()), None

    def commit(self, position: Any) -> None:
        """Write a position to the `state` file, if there is one."""
        if self.state is None:
            return
        self.state.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.state, json.dumps(position).encode())

    def rejected(self) -> int:
        """Return how many records were skipped, since they are damaged or need an encoder."""
        return self._rejected

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"LmdbSource {str(self.path)!r}"

    def _get_opened(self) -> _Opened:
        if self._opened is None:
            raise SourceError(f"{self._where}: is not open; call open() first", retryable=False)
        return self._opened

    def _take(self, opened: _Opened, transaction: Transaction, most: int) -> tuple[list[Record], float | None]:
        """Return the next records, and the time when the following one is due; None if there is none."""
        records: list[Record] = []
        size = 0
        for place, key in follows(opened.environment.databases, transaction, opened.query, self.order, opened.after):
            value = transaction.get(key)
            if value is None:
                continue
            if opened.query.needs_record and not opened.query.matches(value):
                opened.after = place
                continue
            if len(records) >= most or size > _MOST_BYTES:
                return records, time.monotonic()
            try:
                record = self._decode(opened, key, value)
            except (CodecError, CannotGetObjectError):
                self._rejected += 1
                opened.after = place
                continue
            due = self._due(opened, record.time_ns)
            if due > time.monotonic():
                return records, due
            size += len(value)
            records.append(record)
            opened.after, opened.position = place, [record.time_ns, shown(key)]
        return records, None

    def _decode(self, opened: _Opened, key: bytes, value: memoryview) -> Record:
        obj, record = opened.values.decode(bytearray(value), shown(key))
        if isinstance(obj, Record):
            return obj
        data = to_data(obj, record)
        metadata = {"name": record.metadata[NAME]} | ({"queue": data.queue} if data.is_queue else {})
        return record.replace(data=obj, metadata=metadata)

    def _due(self, opened: _Opened, time_ns: int) -> float:
        if self.pace is None:
            return 0.0
        if opened.began is None:
            opened.began = time.monotonic(), time_ns
        began, first_ns = opened.began
        return began + (time_ns - first_ns) / 1e9 / self.pace
