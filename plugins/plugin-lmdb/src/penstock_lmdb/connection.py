"""Open an LMDB file: check it first, make or find its databases, and explain failures."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import attrs
import lmdb

from penstock.errors import CannotConnectToStoreError
from penstock_lmdb.data_file import find_damage

DATABASES: dict[str, bool] = {
    "records": False,
    "positions": False,
    "times": True,
    "axes": True,
    "changes": False,
    "uncovered": False,
    "names": False,
    "byte_ids": False,
    "info": False,
}
"""The databases of a file, and whether a key may have several values. The first two are those of layout 1."""

LAYOUT = 2
_LAYOUT_KEY = b"layout"
_PAGE = 1 << 16


@attrs.frozen
class Connection:
    """An environment with its databases; None for those that an older layout lacks."""

    env: lmdb.Environment
    databases: dict[str, Any]


@attrs.frozen
class Place:
    """The path of a file, and the options for opening it.

    Attributes:
        path: The file, or the directory that it lies in.
        where: Its name in errors.
        readonly: Whether it is opened for reading only.
        flush_commits: Whether every commit flushes its data.
    """

    path: Path
    where: str
    readonly: bool
    flush_commits: bool

    @property
    def data_file(self) -> Path:
        """The file with the data."""
        return self.path / "data.mdb" if os.path.isdir(self.path) else self.path

    def size_on_disk(self) -> int:
        """Return the size of the file in bytes, rounded up to steps of the map; 0 if there is none."""
        try:
            return (self.data_file.stat().st_size + _PAGE - 1) // _PAGE * _PAGE
        except (OSError, ValueError):  # connecting says why
            return 0

    def connect(self, map_size: int) -> Connection:
        """Open it. Raises CannotConnectToStoreError with the path and what to do, and holds and leaves nothing then."""
        env, lock = None, None
        try:
            in_directory = self._is_directory()
            self._check()
            if not self.readonly:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = _absent(self.path / "lock.mdb" if in_directory else self.path.with_name(f"{self.path.name}-lock"))
            env = self._open(map_size, in_directory)
            if not self.readonly:
                env.reader_check()  # clears the entries of killed readers
            return Connection(env, self._open_databases(env))
        except CannotConnectToStoreError:
            if env is not None:
                env.close()
            raise
        except (lmdb.Error, OSError, ValueError) as error:  # a path with NUL is a ValueError
            if env is not None:
                env.close()
            if lock is not None and isinstance(error, lmdb.InvalidError):  # made beside a file of another program
                lock.unlink(missing_ok=True)
            raise CannotConnectToStoreError(f"{self.where} {self._explain(error)}") from error

    def _check(self) -> None:
        if problems := find_damage(self.data_file):
            raise CannotConnectToStoreError(
                f"{self.where} is not an LMDB file, or is damaged; choose another path, or copy it again "
                f"({problems[0]})"
            )

    def _open(self, map_size: int, in_directory: bool) -> lmdb.Environment:
        def connect(lock: bool) -> lmdb.Environment:
            return lmdb.open(
                os.fspath(self.path),
                map_size=map_size if not self.readonly else 0,
                subdir=in_directory,
                readonly=self.readonly,
                create=not self.readonly,
                sync=self.flush_commits,
                metasync=False,
                max_dbs=len(DATABASES),
                max_readers=512,
                lock=lock,
            )

        try:
            return connect(True)
        except (lmdb.ReadonlyError, PermissionError, lmdb.Error) as error:
            # An archive whose lock file may not be written: no writers are expected.
            if not self.readonly or not (isinstance(error, lmdb.ReadonlyError) or _is_denied(error)):
                raise
            if not os.access(self.data_file, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
                raise
            return connect(False)

    def _is_directory(self) -> bool:
        try:
            mode = self.path.stat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):  # opening a pipe would wait for ever
                raise CannotConnectToStoreError(f"{self.where} is neither a file nor a directory; choose another path")
            return stat.S_ISDIR(mode)
        except (FileNotFoundError, NotADirectoryError) as error:
            if self.readonly:
                raise CannotConnectToStoreError(
                    f"{self.where} does not exist; check the path, or omit readonly=True to make it"
                ) from error
            return self.path.suffix != ".lmdb"

    def _open_databases(self, env: lmdb.Environment) -> dict[str, Any]:
        while True:
            try:
                self._check_owner(env)
                if self.readonly:
                    databases = {name: self._open_database(env, name, many) for name, many in DATABASES.items()}
                    with env.begin() as transaction:
                        self._check_layout(transaction, databases["info"])
                    return databases
                with env.begin(write=True) as transaction:  # one commit for all missing databases
                    databases = {
                        name: env.open_db(name.encode(), txn=transaction, dupsort=many)
                        for name, many in DATABASES.items()
                    }
                    self._check_layout(transaction, databases["info"])
                return databases
            except lmdb.MapResizedError:
                env.set_mapsize(0)  # another process has enlarged it since it was opened: use its size

    def _check_owner(self, env: lmdb.Environment) -> None:
        """Raise CannotConnectToStoreError if the file belongs to another program: it is left unchanged."""
        if not env.stat()["entries"]:
            return
        try:
            env.open_db(b"records", create=False)
        except (lmdb.NotFoundError, lmdb.IncompatibleError) as error:
            raise CannotConnectToStoreError(
                f"{self.where} holds no records of penstock, but those of another program; check the path"
            ) from error

    def _open_database(self, env: lmdb.Environment, name: str, many: bool) -> Any:
        try:
            return env.open_db(name.encode(), create=False, dupsort=many)
        except (lmdb.NotFoundError, lmdb.ReadonlyError):
            if name == "records":
                raise
            return None

    def _check_layout(self, transaction: Any, info: Any) -> None:
        if info is None:
            return
        found = transaction.get(_LAYOUT_KEY, db=info)
        if found is None and not self.readonly:
            transaction.put(_LAYOUT_KEY, str(LAYOUT).encode(), db=info)
        elif found is not None and not (found.isdigit() and int(found) <= LAYOUT):
            raise CannotConnectToStoreError(
                f"{self.where} was written by a later penstock-lmdb (layout {found.decode(errors='replace')[:20]}; "
                f"this one knows {LAYOUT}); install a later one"
            )

    def _explain(self, error: BaseException) -> str:
        if isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError | lmdb.CorruptedError):
            return f"is not an LMDB file, or is damaged; choose another path ({error})"
        if isinstance(error, lmdb.ReadonlyError | PermissionError) or _is_denied(error):
            return (
                f"may not be {'read' if self.readonly else 'written to'}; change its permissions or the path ({error})"
            )
        if isinstance(error, lmdb.NotFoundError):
            return f"holds no records of penstock; check the path ({error})"
        if "already open" in str(error):
            return "is already open in this process; use that store, or close it first"
        if os.strerror(errno.ENOSPC) in str(error):
            return f"cannot be opened, since the disk is full; free some space ({error})"
        if self.readonly:
            return f"holds no LMDB file; check the path ({error})"
        return f"cannot be opened; check that its directory can be written to ({error})"


def _is_denied(error: BaseException) -> bool:
    return any(os.strerror(code) in str(error) for code in (errno.EACCES, errno.EPERM, errno.EROFS))


def _absent(path: Path) -> Path | None:
    """Return this path if it does not exist."""
    return None if os.path.lexists(path) else path
