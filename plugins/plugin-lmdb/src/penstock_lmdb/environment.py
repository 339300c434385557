"""An LMDB environment that grows by itself, read from any thread while one writes."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from penstock.errors import CannotConnectToStoreError, StoreError

Transaction = Any
"""`lmdb.Transaction` of memoryviews, which are valid until it ends."""

T = TypeVar("T")

_RECORDS, _POSITIONS = b"records", b"positions"
_PAGE = 1 << 16


class Environment:
    """Hold an open environment and its two databases, `records` and `positions`.

    A transaction lasts as long as the function that uses it, so that a reader never keeps old pages alive. Any
    thread may use it; changes wait for each other. A fork must not: LMDB's locks belong to the process that opened it.
    """

    def __init__(
        self, path: Path, *, where: str, readonly: bool, map_size: int, max_size: int | None, flush_commits: bool
    ) -> None:
        """Open it. Raises CannotConnectToStoreError with the path and what to do."""
        self._path, self._where, self._readonly = path, where, readonly
        self._max_size, self._flush_commits = max_size, flush_commits
        self._process = os.getpid()
        self._readers = 0
        self._alone = 0
        self._idle = threading.Condition()
        self._changing = threading.Lock()
        self._env = self._connect(max(map_size, self._size_on_disk()))
        self._identity = None if readonly else _identity(self._data_file())

    def read(self, use: Callable[[Transaction], T]) -> T:
        """Call `use` with a read transaction; what it returns must not refer to the transaction's memory."""
        self._check_process()
        while True:
            try:
                with self._reading(), self._env.begin(db=self._records, buffers=True) as transaction:
                    return use(transaction)
            except lmdb.MapResizedError:
                self._resize(0)  # another process made it larger: follow
            except lmdb.ReadersFullError as error:
                raise StoreError(f"{self._where}: too many readers at once; try again with fewer: {error}") from error
            except lmdb.Error as error:
                raise StoreError(f"{self._where}: cannot be read: {error}") from error

    def change(self, use: Callable[[Transaction], T], *, size_bytes: int = 0) -> T:
        """Call `use` with a write transaction and commit it: all of it or, with a StoreError, nothing.

        `use` is called again from the start when the map was full and has grown; `size_bytes` says how much it
        writes, so that once is mostly enough.
        """
        self._check_process()
        if self._readonly:
            raise StoreError(f"{self._where}: was opened with readonly=True and cannot be changed", retryable=False)
        with self._changing:
            return self._change(use, size_bytes)

    def _change(self, use: Callable[[Transaction], T], size_bytes: int) -> T:
        reconnected = False
        while True:
            try:
                return self._commit(use)
            except lmdb.MapFullError as error:
                self._grow(size_bytes, error)
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
        transaction = self._env.begin(db=self._records, write=True, buffers=True)
        try:
            result = use(transaction)
            transaction.commit()
        except BaseException:
            # py-lmdb 3 waits here until no other thread is inside a call; readers that take turns would never let it.
            with self._without_readers():
                transaction.abort()
            raise
        return result

    def count(self) -> int:
        """Return how many records there are."""
        return self.read(lambda transaction: int(transaction.stat(self._records)["entries"]))

    def positions(self) -> bytes | None:
        """Return what was put by `put_positions`, or None."""
        if self._positions is None:
            return None
        return self.read(lambda transaction: _copy(transaction.get(_POSITIONS, db=self._positions)))

    def put_positions(self, value: bytes) -> None:
        """Keep these bytes, in a transaction of their own."""
        self.change(lambda transaction: transaction.put(_POSITIONS, value, db=self._positions), size_bytes=len(value))

    def sync(self) -> None:
        """Return when everything committed is durable."""
        self._check_process()
        if self._readonly:
            return
        self._check_file()
        try:
            self._env.sync(True)
        except lmdb.Error as error:
            raise StoreError(f"{self._where}: what was written cannot be made durable: {error}") from error

    def _check_file(self) -> None:
        """Raise StoreError if the file that is open is no longer the one at the path: nobody could find its records."""
        if self._identity is not None and _identity(self._data_file()) != self._identity:
            raise StoreError(
                f"{self._where}: {self._data_file()} was removed or replaced while it was open; what was written since "
                "it was opened is lost, unless its source gives it again: start the run again",
                retryable=False,
            )

    def _data_file(self) -> Path:
        return self._path / "data.mdb" if os.path.isdir(self._path) else self._path

    def close(self) -> None:
        """Sync and let go; waits for the readers of other threads. Lets go also when the sync raises a StoreError."""
        if self._process != os.getpid():
            return  # the parent's; closing it here would take its locks away
        try:
            self.sync()
        finally:
            with self._changing, self._without_readers():
                self._env.close()

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise StoreError(
                f"{self._where}: was opened by process {self._process} and cannot be used after a fork; open it here",
                retryable=False,
            )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        with self._idle:
            self._idle.wait_for(lambda: not self._alone)
            self._readers += 1
        try:
            yield
        finally:
            with self._idle:
                self._readers -= 1
                self._idle.notify_all()

    @contextlib.contextmanager
    def _without_readers(self) -> Iterator[None]:
        # Those who want to read wait from now on, or readers that take turns would keep this waiting for ever.
        with self._idle:
            self._alone += 1
            try:
                self._idle.wait_for(lambda: self._readers == 0)
                yield
            finally:
                self._alone -= 1
                self._idle.notify_all()

    def _resize(self, size: int) -> None:
        # LMDB forbids it while a transaction of this process lives.
        with self._without_readers():
            self._env.set_mapsize(size)

    def _grow(self, size_bytes: int, error: lmdb.Error) -> None:
        size = int(self._env.info()["map_size"])
        larger = (max(2 * size, size + 2 * size_bytes) + _PAGE - 1) // _PAGE * _PAGE
        if self._max_size is not None:
            larger = min(larger, self._max_size)
            if larger <= size:
                raise StoreError(
                    f"{self._where}: is full at max_size={self._max_size}; delete records or set a larger max_size"
                ) from error
        try:
            self._resize(larger)
        except lmdb.Error as failed:
            raise StoreError(f"{self._where}: cannot grow to {larger} bytes: {failed}") from failed

    def _size_on_disk(self) -> int:
        try:
            return (self._data_file().stat().st_size + _PAGE - 1) // _PAGE * _PAGE
        except OSError:
            return 0

    def _reconnect(self) -> None:
        with self._without_readers():
            size = int(self._env.info()["map_size"])
            self._env.close()
            self._env = self._connect(size)

    def _connect(self, map_size: int) -> lmdb.Environment:
        env, lock = None, None
        try:
            in_directory = self._is_directory()
            if not self._readonly:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = _absent(self._path / "lock.mdb" if in_directory else self._path.with_name(f"{self._path.name}-lock"))
            env = lmdb.open(
                os.fspath(self._path),
                map_size=map_size if not self._readonly else 0,
                subdir=in_directory,
                readonly=self._readonly,
                create=not self._readonly,
                sync=self._flush_commits,
                metasync=False,
                max_dbs=2,
                max_readers=512,
            )
            if not self._readonly:
                env.reader_check()  # what readers that were killed have left
            self._open_databases(env)
        except CannotConnectToStoreError:
            raise
        except (lmdb.Error, OSError) as error:
            if env is not None:
                env.close()
            if lock is not None and isinstance(error, lmdb.InvalidError):  # made beside what is somebody else's
                lock.unlink(missing_ok=True)
            raise CannotConnectToStoreError(f"{self._where} {self._explain(error)}") from error
        return env

    def _is_directory(self) -> bool:
        try:
            return stat.S_ISDIR(self._path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError) as error:
            if self._readonly:
                raise CannotConnectToStoreError(
                    f"{self._where} does not exist; check the path, or leave out readonly=True to make it"
                ) from error
            return self._path.suffix != ".lmdb"

    def _open_databases(self, env: lmdb.Environment) -> None:
        while True:
            try:
                self._records = env.open_db(_RECORDS, create=not self._readonly)
                self._positions = self._open_positions(env)
                return
            except lmdb.MapResizedError:
                env.set_mapsize(0)  # another process made it larger since it was opened: follow

    def _open_positions(self, env: lmdb.Environment) -> Any:
        try:
            return env.open_db(_POSITIONS, create=not self._readonly)
        except (lmdb.NotFoundError, lmdb.ReadonlyError):
            return None

    def _explain(self, error: BaseException) -> str:
        if isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError | lmdb.CorruptedError):
            return f"is no LMDB file, or is damaged; choose another path ({error})"
        if isinstance(error, lmdb.ReadonlyError | PermissionError):  # EACCES, by its LMDB name
            return (
                f"may not be {'read' if self._readonly else 'written to'}; change its permissions or the path ({error})"
            )
        if isinstance(error, lmdb.NotFoundError):
            return f"holds no records of penstock; check the path ({error})"
        if "already open" in str(error):
            return "is open in this process already; use that store, or close it first"
        if self._readonly:
            return f"holds no LMDB file; check the path ({error})"
        return f"cannot be opened; check that its directory can be written to ({error})"


def _absent(path: Path) -> Path | None:
    """Return this path if nothing is there."""
    return None if os.path.lexists(path) else path


def _identity(file: Path) -> tuple[int, int] | None:
    """Return what tells a file from another of its name; None if it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _copy(view: memoryview | None) -> bytes | None:
    return None if view is None else bytes(view)
