"""An LMDB environment that grows automatically, and that any thread can read while one writes."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from operator import lt
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from penstock.errors import StoreError
from penstock_lmdb.connection import Connection, Place
from penstock_lmdb.readers import FAR_WHEN_IT_GROWS, ReaderWatch
from penstock_lmdb.room import RESERVE, Room

Transaction = Any
"""An `lmdb.Transaction` that returns memoryviews, which are valid until it ends."""

T = TypeVar("T")

_POSITIONS = b"positions"
_PAGE = 1 << 16
_OPEN: weakref.WeakSet[Environment] = weakref.WeakSet()


class _Held(threading.local):
    """The read transaction that a thread holds."""

    transaction: Transaction | None = None


class Environment:
    """Hold an open environment and its databases.

    A read transaction lasts as long as the function that uses it, or as a `reading()` block, so that a reader does
    not keep old pages alive. Any thread may use it; changes wait for each other. A fork must not: LMDB's locks belong
    to the process that opened it.

    Attributes:
        databases: The databases by name; None for those that a file of an older layout lacks.
    """

    databases: dict[str, Any]

    def __init__(
        self, path: Path, *, where: str, readonly: bool, map_size: int, max_size: int | None, flush_commits: bool
    ) -> None:
        """Open it. Raises CannotConnectToStoreError with the path and what to do."""
        self._place = Place(path, where, readonly, flush_commits)
        self._where, self._readonly, self._max_size = where, readonly, max_size
        self._process, self._is_closed = os.getpid(), False
        self._readers = 0
        self._alone = 0
        self._idle = threading.Condition()
        self._changing = threading.Lock()
        self._held = _Held()
        for environment in list(_OPEN):
            environment.leave_to_parent()
        self._use(self._place.connect(max(map_size, self._place.size_on_disk())))
        self._data_file = self._place.data_file
        self._identity = None if readonly else _identity(self._data_file)
        self._watch, self._room = ReaderWatch(where), Room(self._data_file, where)
        _OPEN.add(self)

    @property
    def data_file(self) -> Path:
        """The file with the data."""
        return self._data_file

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, use: Callable[[Transaction], T]) -> T:
        """Call `use` with a read transaction; its result must not refer to the transaction's memory.

        Inside `reading()` it is the transaction of that block.
        """
        held = self._held.transaction
        if held is not None and self._process == os.getpid():
            return use(held)
        with self.reading() as transaction:
            return use(transaction)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Hold one read transaction of this thread in a block; blocks within it use the same one."""
        self.check_usable()
        if self._held.transaction is not None:
            yield self._held.transaction
            return
        transaction = self._begin()
        self._held.transaction = transaction
        try:
            yield transaction
        except lmdb.Error as error:
            raise StoreError(f"{self._where}: cannot be read: {error}") from error
        finally:
            self._held.transaction = None
            transaction.abort()
            self._leave()

    @property
    def is_held(self) -> bool:
        """Whether this thread is inside `reading()`."""
        return self._held.transaction is not None

    def _begin(self) -> Transaction:
        """Begin a read transaction, and count this thread as a reader."""
        while True:
            self._enter()
            try:
                return self._env.begin(db=self.databases["records"], buffers=True)
            except lmdb.MapResizedError:
                self._leave()
                self._resize(0)  # another process has enlarged it: use its size
            except lmdb.ReadersFullError as error:
                self._leave()
                raise StoreError(f"{self._where}: too many readers at once; try again with fewer: {error}") from error
            except lmdb.Error as error:
                self._leave()
                raise StoreError(f"{self._where}: cannot be read: {error}") from error

    # -- changing ----------------------------------------------------------------------------------------------------

    def change(self, use: Callable[[Transaction], T], *, size_bytes: int = 0, essential: bool = False) -> T:
        """Call `use` with a write transaction and commit it: all of it or, with a StoreError, nothing.

        Args:
            use: Called again from the start if the map was full and has grown.
            size_bytes: The approximate number of bytes that it writes.
            essential: Whether it may use the reserve, on the disk and below `max_size`, as a delete may.
        """
        self.check_usable()
        if self._readonly:
            raise StoreError(f"{self._where}: was opened with readonly=True and cannot be changed", retryable=False)
        with self._changing:
            most = None if essential else self._room.take(self._env, self.databases.values(), size_bytes)
            with contextlib.nullcontext() if most is None else self._no_larger_than(most):
                result = self._change(use, size_bytes, essential, most)
            self._watch.committed(self._env)
        return result

    @contextlib.contextmanager
    def _no_larger_than(self, size: int) -> Iterator[None]:
        """Keep the file from becoming larger in this block: a full disk has room within the file only."""
        before = int(self._env.info()["map_size"])
        self._resize(size)
        try:
            yield
        finally:
            self._resize(before)

    def _change(self, use: Callable[[Transaction], T], size_bytes: int, essential: bool, most: int | None) -> T:
        reconnected = turned = False
        while True:
            try:
                return self._commit(use)
            except lmdb.MapFullError as error:
                if most is not None or not self._grow(size_bytes, essential):
                    if turned or not self._turn():
                        raise StoreError(self._full(most)) from error
                    turned = True
            except lmdb.MapResizedError:
                self._resize(0)
            except lmdb.PanicError as error:
                # The disk failed while a commit was being noted: LMDB asks for the environment to be opened again.
                if reconnected:
                    raise StoreError(f"{self._where}: cannot be written to: {error}") from error
                reconnected = True
                self._reconnect()
            except lmdb.Error as error:
                raise StoreError(
                    f"{self._where}: cannot be written to, nothing of this call was; is the disk full? ({error})"
                ) from error

    def _commit(self, use: Callable[[Transaction], T]) -> T:
        transaction = self._env.begin(db=self.databases["records"], write=True, buffers=True)
        try:
            result = use(transaction)
            transaction.commit()
        except BaseException:
            # py-lmdb 3 waits here until no other thread is inside a call; alternating readers would block it for ever.
            with self._without_readers(but=int(self.is_held)):
                transaction.abort()
            raise
        return result

    def _full(self, most: int | None) -> str:
        if most is None:
            return f"{self._where}: is full at max_size={self._max_size}; delete records or set a larger max_size"
        return (
            f"{self._where}: the disk is full, nothing of this call was written; delete records or free some space, "
            "then try again"
        )

    def _grow(self, size_bytes: int, essential: bool) -> bool:
        """Enlarge the map; return False if it has its maximal size."""
        self._watch.look(self._env, far=FAR_WHEN_IT_GROWS)
        size = int(self._env.info()["map_size"])
        larger = (max(2 * size, size + 2 * size_bytes) + _PAGE - 1) // _PAGE * _PAGE
        if self._max_size is not None:
            reserve = 0 if essential else min(RESERVE, self._max_size // 8)
            larger = min(larger, max((self._max_size - reserve) // _PAGE, 1) * _PAGE)
            if larger <= size:
                return False
        try:
            self._resize(larger)
        except lmdb.Error as failed:
            raise StoreError(f"{self._where}: cannot grow to {larger} bytes: {failed}") from failed
        return True

    def _turn(self) -> bool:
        """Commit a tiny change: LMDB reuses deleted pages one transaction later. Return whether that worked."""
        try:
            self._commit(lambda transaction: transaction.put(b"turn", os.urandom(8), db=self.databases["info"]))
        except lmdb.Error:
            return False
        return True

    # -- positions and counts ----------------------------------------------------------------------------------------

    def count(self) -> int:
        """Return how many records there are."""
        return self.read(lambda transaction: int(transaction.stat(self.databases["records"])["entries"]))

    def positions(self) -> bytes | None:
        """Return the positions that were kept, or None."""
        database = self.databases["positions"]
        if database is None:
            return None
        return self.read(lambda transaction: _copy(transaction.get(_POSITIONS, db=database)))

    def put_positions(self, transaction: Transaction, value: bytes) -> None:
        """Keep these positions, in the same transaction as other changes."""
        transaction.put(_POSITIONS, value, db=self.databases["positions"])

    def sync(self) -> None:
        """Make all commits durable."""
        self.check_usable()
        if self._readonly:
            return
        self._check_file()
        try:
            self._env.sync(True)
        except lmdb.Error as error:
            raise StoreError(f"{self._where}: records cannot be made durable: {error}") from error

    def info(self) -> dict[str, Any]:
        """Return the statistics of LMDB: sizes of the map and of a page, last page, transaction, readers."""
        self.check_usable()
        return {**self._env.info(), "page_size": self._env.stat()["psize"]}

    def copy_to(self, path: Path) -> int:
        """Write a compacted copy; return the number of the last transaction before it. Raises lmdb.Error."""
        last = int(self._env.info()["last_txnid"])
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            self._env.copyfd(descriptor, compact=True)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return last

    def _check_file(self) -> None:
        """Raise StoreError if the open file is no longer the one at the path: its records could not be found."""
        if self._identity is not None and _identity(self._data_file) != self._identity:
            raise StoreError(
                f"{self._where}: {self._data_file} was removed or replaced while it was open; records written "
                "since it was opened are lost, unless their source repeats them: start the run again",
                retryable=False,
            )

    # -- life --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Sync and close; waits for the readers of other threads. Closes also when the sync raises a StoreError."""
        if self._process != os.getpid():
            return  # the parent's
        if self.is_held:
            raise StoreError(f"{self._where}: cannot be closed inside reading(); end the block first", retryable=False)
        try:
            self.sync()
            if not self._readonly:
                with self._changing:
                    self._trim()
        finally:
            with self._changing, self._without_readers():
                self._is_closed = True
                self._env.close()
            _OPEN.discard(self)

    def leave_to_parent(self) -> None:
        """Close it in a process that was forked from the one that opened it, where py-lmdb considers it open."""
        if self._process != os.getpid():
            self._env.close()
            _OPEN.discard(self)

    def _trim(self) -> None:
        """Free the space that was allocated in advance, unless another process is writing."""
        with contextlib.suppress(lmdb.Error, OSError):
            transaction = self._env.begin(write=True)
            try:
                self._room.trim(self._env)
            finally:
                transaction.abort()

    @property
    def is_forked(self) -> bool:
        """Whether this process was forked from the one that opened it."""
        return self._process != os.getpid()

    def check_usable(self) -> None:
        """Raise StoreError after it was closed, and in a process that was forked from the one that opened it."""
        if self._is_closed:
            raise StoreError(f"{self._where}: is closed; operations that it began cannot continue", retryable=False)
        if self.is_forked:
            raise StoreError(
                f"{self._where}: was opened by process {self._process} and cannot be used after a fork; open it here",
                retryable=False,
            )

    def _enter(self) -> None:
        with self._idle:
            self._idle.wait_for(lambda: not self._alone)
            self._readers += 1

    def _leave(self) -> None:
        with self._idle:
            self._readers -= 1
            self._idle.notify_all()

    @contextlib.contextmanager
    def _without_readers(self, but: int = 0) -> Iterator[None]:
        # New readers wait from now on: alternating readers would block this for ever.
        with self._idle:
            self._alone += 1
            try:
                self._idle.wait_for(lambda: self._readers <= but)
                yield
            finally:
                self._alone -= 1
                self._idle.notify_all()

    def _resize(self, size: int) -> None:
        # LMDB forbids it while a transaction of this process lives.
        if self.is_held:
            raise StoreError(
                f"{self._where}: the file must grow, but cannot grow inside reading(); end the block before writing",
                retryable=False,
            )
        with self._without_readers():
            self._env.set_mapsize(size)

    def _reconnect(self) -> None:
        with self._without_readers():
            size = int(self._env.info()["map_size"])
            self._env.close()
            self._use(self._place.connect(size))

    def _use(self, connection: Connection) -> None:
        self._env, self.databases = connection.env, connection.databases


def is_behind_all(transaction: Transaction, keys: Sequence[bytes]) -> bool:
    """Return whether each of these keys is higher than the previous one, and the first than all existing keys."""
    if not keys or not all(map(lt, keys, keys[1:])):
        return False
    cursor = transaction.cursor()
    return not cursor.last() or bytes(cursor.key()) < keys[0]


def _identity(file: Path) -> tuple[int, int] | None:
    """Return the identity of a file, which distinguishes it from a later one of its name; None if it does not exist."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _copy(view: memoryview | None) -> bytes | None:
    return None if view is None else bytes(view)
