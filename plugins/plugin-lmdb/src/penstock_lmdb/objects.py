"""LMDBStore: objects on disk under the names that users of improv know."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from penstock import errors
from penstock.arguments import checks_arguments, checks_arguments_besides
from penstock.codec.encoders import Encoder
from penstock.errors import CodecError, ConfigError, StoreError
from penstock.short_text import short
from penstock_lmdb import exits
from penstock_lmdb.buffer import Buffer, Change
from penstock_lmdb.change_log import kept
from penstock_lmdb.environment import Environment
from penstock_lmdb.errors import CannotConnectToStoreInterfaceError, CannotGetObjectError, ObjectNotFoundError
from penstock_lmdb.object_id import ObjectID, id_of, key_of
from penstock_lmdb.object_table import ObjectTable, Put
from penstock_lmdb.object_value import LMDBData, Values, to_data
from penstock_lmdb.store_path import choose_path, find_store
from penstock_lmdb.subscription import ALL_KINDS, Event, Subscription, Subscriptions, wanted

_KEPT_CHANGES = 100_000
_AT_ONCE = 1000
_MAP_SIZE = 1 << 24
_LEAST_SIZE = 1 << 16
_PICKLED = b"pickle"


class LMDBStore:
    """Keep objects on disk by id and by name; other processes read them while this one writes.

    An object is a snapshot, which can be read from the moment when `put` returns. There are three levels of safety:

    - *buffered*: `put` has returned. It is lost if the process is killed with SIGKILL within `commit_freq` seconds.
    - *committed*: `commit()` has returned, or `commit_freq` seconds have passed. It survives the process, other
      processes see it; a power cut may undo the last commits, whole.
    - *synced*: `flush()`, `close()` or a put with `flush_this_immediately` has returned. It survives a power cut.

    A normal exit, an exception and SIGTERM flush. Any thread may use a store; a forked child opens its own.
    Objects are data that a record can hold, sparse matrices, and types that have an `Encoder`. Nothing is pickled,
    unless `pickle` is set for this store.

    Attributes:
        path: The directory of the LMDB file.
    """

    @checks_arguments
    def __init__(
        self,
        path: str | os.PathLike[str] = "../outputs/",
        name: str | None = None,
        load: bool = False,
        max_size: float = 1e12,
        flush_immediately: bool = False,
        commit_freq: float = 1,
        *,
        encoders: Iterable[Encoder] = (),
        pickle: bool = False,
    ) -> None:
        """Open the store.

        Args:
            path: The directory that contains it, or, with `load` and no name, also its own directory.
            name: Its own directory in `path`; by default "lmdb_" and the time. With `load`, the newest of these.
            load: Open an existing store for reading only, also while another process writes to it.
            max_size: Bytes that the file never exceeds, at least 64 KiB; `math.inf` for no limit.
            flush_immediately: Whether each put is synced.
            commit_freq: Seconds after which a put is committed at the latest.
            encoders: Encoders of your own types.
            pickle: Pickle objects without an encoder, and unpickle them from files that were written so. Unpickling
                runs code: only for files that you trust.

        Raises:
            CannotConnectToStoreInterfaceError: it cannot be opened, or with `load` does not exist.
            ConfigError: `max_size` or `commit_freq` cannot be one.
        """
        if not _is_number(commit_freq) or not commit_freq > 0:
            raise ConfigError(f"LMDBStore: commit_freq={short(commit_freq)}: must be a number of seconds above 0")
        if not _is_number(max_size) or not max_size >= _LEAST_SIZE:
            raise ConfigError(
                f"LMDBStore: max_size={short(max_size)}: must be a number of bytes, {_LEAST_SIZE} at least"
            )
        largest = None if math.isinf(max_size) else int(max_size)
        self._largest = largest
        self.path = find_store(Path(path), name) if load else choose_path(Path(path), name)
        self.flush_immediately, self.commit_freq = flush_immediately, commit_freq
        self._where = f"LMDBStore {str(self.path)!r}"
        self._values, self._load = Values(tuple(encoders)), load
        try:
            self._environment = Environment(
                self.path,
                where=self._where,
                readonly=load,
                map_size=_MAP_SIZE if largest is None else min(_MAP_SIZE, largest),
                max_size=largest,
                flush_commits=True,
            )
        except errors.CannotConnectToStoreError as error:
            raise CannotConnectToStoreInterfaceError(self.path, str(error)) from error
        self._table = ObjectTable(self._environment.databases, kept(self._environment.databases, _KEPT_CHANGES))
        self._subscriptions = Subscriptions()
        self._numbers, self._token = threading.Lock(), os.urandom(4).hex().encode()  # others put at the same time
        self._last_number = 0
        self._closed = False
        self._buffer = Buffer(self._environment, self._table, self._where, commit_freq)
        if pickle and self._mark_pickle():
            self._values.allow_pickle()
        if not load:
            exits.flush_at_exit(self, self.flush)

    # -- objects -----------------------------------------------------------------------------------------------------

    def put(self, obj: Any, obj_name: str, obj_id: Any = None, flush_this_immediately: bool = False) -> ObjectID:
        """Store an object and return its id. An existing object of this id is replaced.

        Args:
            obj: The object; it may be changed afterwards.
            obj_name: Its name; if several objects have the same one, it refers to the last of them.
            obj_id: A str or bytes of 1 to 511 bytes, or None for a new one.
            flush_this_immediately: Return when it is synced.

        Raises:
            StoreError: it cannot be encoded, is larger than `max_size`, its id cannot be one, or (then it can be
                retried) the store or the disk is full. It is not kept then, and other objects are.
        """
        with exits.uninterrupted():
            return self._put(obj, obj_name, obj_id, flush_this_immediately)

    def get(self, key: Any, include_metadata: bool = False) -> Any:
        """Return the object of this id or name, or of a list of them all, in their order.

        Args:
            key: An id, a name, or a list; of several objects of a name, the last is returned.
            include_metadata: Return an `LMDBData` for each.

        Raises:
            ObjectNotFoundError: one does not exist; for a list, it names all that are missing, and none is returned.
            CannotGetObjectError: one is damaged, or needs an encoder that this store does not have.
        """
        with exits.uninterrupted():
            if not isinstance(key, list | tuple):
                return self._get(key, include_metadata)
            missing = [each for each in key if self._find_key(each) is None]
            if missing:
                raise ObjectNotFoundError(missing[0] if len(missing) == 1 else missing, self._where)
            return [self._get(each, include_metadata) for each in key]

    def get_keys(self) -> list[ObjectID]:
        """Return the ids of all objects, in the order of their bytes, each of the type with which it was put."""
        with exits.uninterrupted():
            self._check()
            found: dict[bytes, bool] = {}
            pending = self._buffer.pending()
            after = b""
            while page := self._environment.read(lambda txn: self._table.keys(txn, after, _AT_ONCE)):  # noqa: B023 - called at once
                found.update(page)
                after = page[-1][0]
            for key, put in pending.items():
                if put is None:
                    found.pop(key, None)
                else:
                    found[key] = put.id_is_bytes
            return [id_of(key, is_bytes) for key, is_bytes in sorted(found.items())]

    def delete(self, obj_id: Any) -> None:
        """Delete an object. Raises ObjectNotFoundError."""
        with exits.uninterrupted():
            self._check_changeable()
            with self._buffer.changing():
                key = self._find_key(obj_id)
                if key is None:
                    raise ObjectNotFoundError(obj_id, self._where)
                change = self._buffer.add(key, None, now=self.flush_immediately)
            if change is not None:
                self._settle(change, now=self.flush_immediately)

    def replace(self, key: Any, obj: Any, flush_this_immediately: bool = False) -> Any:
        """Replace the object of this id or name, at once, and return the old one.

        Id and name stay. Raises ObjectNotFoundError, or as `put` does; the old one stays then.
        """
        with exits.uninterrupted():
            self._check_changeable()
            with self._buffer.changing():
                found = self._find_key(key)
                if found is None:
                    raise ObjectNotFoundError(key, self._where)
                old = self._load_key(found, key)
                now = flush_this_immediately or self.flush_immediately
                change = self._buffer.add(found, self._encode(obj, old[1].name, found, old[2], replaces=True), now=now)
            if change is not None:
                self._settle(change, now=now)
            return old[0]

    def register(self, encoder: Encoder) -> None:
        """Use an encoder for objects of its type from now on. Raises ConfigError if its name is taken by another."""
        self._values.register(encoder)

    @checks_arguments_besides("since")
    def subscribe(
        self, callback: Callable[[Event], None], pattern: str = "*", *, since: int | None = None, **coords: Any
    ) -> Callable[[], None]:
        """Call `callback` with each put, replace and delete; return a function that ends it.

        It is called for changes of any process, in order, as soon as they are committed, and in a thread of its own.

        Args:
            callback: It is called with an `Event`: kind, key (the id), name, position.
            pattern: One of `fnmatch` for the id or the name.
            since: The position of an event: all later ones are reported first. None: only new events.
            coords: The coordinates that a record must match.

        Raises:
            StoreError: the changes after `since` have been forgotten; a file keeps 100,000 changes.
        """
        self._check()
        what = wanted(pattern, coords, ALL_KINDS)
        return self._subscriptions.add(Subscription(self._environment, self._table.log, what, callback, since))

    # -- durability --------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Write the buffered changes to the file. Raises StoreError; then those that do not fit stay buffered."""
        with exits.uninterrupted():
            self._check()
            self._buffer.commit()

    def flush(self, sig: int | None = None, frame: FrameType | None = None) -> None:
        """Write the buffered changes, and return when all are synced. It can be set as the handler of a signal.

        Raises:
            StoreError: the disk is full, or fails; the changes that do not fit stay buffered.
        """
        with exits.uninterrupted():
            if self._closed or self._load:
                return
            try:
                self._buffer.commit()
            finally:  # also what fits beside an object that does not
                self._environment.sync()

    def close(self) -> None:
        """Flush, and close the file. Any number of times."""
        with exits.uninterrupted():
            if self._closed or self._environment.is_forked:
                self._closed = True
                return
            try:
                self.flush()
            finally:
                self._closed = True
                exits.forget(self)
                self._subscriptions.end()
                self._buffer.stop()
                self._environment.close()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _put(self, obj: Any, obj_name: str, obj_id: Any, now: bool) -> ObjectID:
        self._check_changeable()
        if not isinstance(obj_name, str):
            raise StoreError(f"{self._where}: obj_name must be a str, not {type(obj_name).__name__}", retryable=False)
        if obj_id is None:
            key, is_bytes = b"", False
        else:
            key, is_bytes = key_of(obj_id, where=self._where)
        put = self._encode(obj, obj_name, key, is_bytes, replaces=False)
        key = key or b"%016x%s" % (put.number, self._token)
        now = now or self.flush_immediately
        change = self._buffer.add(key, put, now=now)
        if change is not None:
            self._settle(change, now=now)
        return id_of(key, is_bytes)

    def _settle(self, change: Change, *, now: bool) -> None:
        self._buffer.settle(change)
        if now:
            self._environment.sync()

    def _encode(self, obj: Any, name: str, key: bytes, is_bytes: bool, *, replaces: bool) -> Put:
        number = self._next_number()
        try:
            value, record = self._values.encode(obj, name=name, number=number, id_is_bytes=is_bytes)
        except Exception as error:  # from the codec, or any error of a user's encoder
            raise StoreError(
                f"{self._where}: object {name!r} of type {type(obj).__name__} cannot be kept: {error}; register an "
                "Encoder for its type",
                retryable=False,
            ) from error
        if self._largest is not None and len(value) > self._largest:
            raise StoreError(
                f"{self._where}: object {name!r} has {len(value)} bytes, more than max_size={self._largest}; set a "
                "larger max_size",
                retryable=False,
            )
        return Put(value, name, number, record.time_ns, record.coords, is_bytes, replaces)

    def _next_number(self) -> int:
        """Return the time in nanoseconds, made higher than all earlier ones."""
        with self._numbers:
            self._last_number = max(self._last_number + 1, time.time_ns())
            return self._last_number

    def _get(self, key: Any, include_metadata: bool) -> Any:
        found = self._find_key(key)
        if found is None:
            raise ObjectNotFoundError(key, self._where)
        obj, data, _ = self._load_key(found, key)
        return data if include_metadata else obj

    def _find_key(self, key: Any) -> bytes | None:
        """Return the id as bytes of an existing object, by its id or its name."""
        self._check()
        try:
            own, _ = key_of(key, where=self._where)
        except StoreError:
            own = b""
        if own:
            waits, put = self._buffer.find(own)
            if put is not None:
                return own
            if not waits and self._environment.read(lambda txn: txn.get(own) is not None):
                return own
        if not isinstance(key, str):
            return None
        found = self._buffer.find_name(key)
        if found is not None:
            return found
        pending = self._buffer.pending()
        return self._environment.read(lambda txn: self._table.find_name(txn, key, pending))

    def _load_key(self, key: bytes, query: Any) -> tuple[Any, LMDBData, bool]:
        _, put = self._buffer.find(key)
        raw = bytearray(put.value) if put else self._environment.read(lambda txn: _copied(txn.get(key)))
        if raw is None:
            raise ObjectNotFoundError(query, self._where)  # deleted meanwhile
        try:
            obj, record = self._values.decode(raw, query)
        except (CodecError, errors.CannotGetObjectError) as error:
            raise CannotGetObjectError(query, self._where, str(error)) from error
        return obj, to_data(obj, record), bool(record.metadata.get("lmdb_id"))

    def _check(self) -> None:
        if self._closed:
            raise StoreError(f"{self._where}: is closed", retryable=False)
        self._environment.check_usable()

    def _check_changeable(self) -> None:
        self._check()
        if self._load:
            raise StoreError(f"{self._where}: was opened with load=True, to read only", retryable=False)

    def _mark_pickle(self) -> bool:
        """Note in a new file that it is written with pickle; return whether this one was."""
        info = self._environment.databases["info"]
        if info is None:
            return False
        if not self._load and not self._environment.count():
            self._environment.change(lambda txn: txn.put(_PICKLED, b"1", db=info))
        return self._environment.read(lambda txn: txn.get(_PICKLED, db=info) is not None)

    # -- Python's own ------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, key: object) -> bool:
        return self._find_key(key) is not None

    def __len__(self) -> int:
        return len(self.get_keys())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


def _copied(view: memoryview | None) -> bytearray | None:
    return None if view is None else bytearray(view)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
