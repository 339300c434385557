"""Inspection of a file: its content, its problems, and the space in use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lmdb

from penstock.codec import decode
from penstock.errors import CodecError, StoreError
from penstock_lmdb.data_file import find_damage, read_meta
from penstock_lmdb.environment import Environment
from penstock_lmdb.naming import shown
from penstock_lmdb.store import LmdbRecordStore


def describe(path: Path) -> dict[str, Any]:
    """Return a description of a file. Raises CannotConnectToStoreError."""
    with _opened(path) as environment:
        info, databases = environment.info(), environment.databases

        def look(transaction: Any) -> dict[str, Any]:
            found: dict[str, Any] = {"records": transaction.stat(databases["records"])["entries"]}
            if databases["times"] is not None:
                cursor = transaction.cursor(databases["times"])
                found["first time"] = _time(cursor.key()) if cursor.first() else "-"
                found["last time"] = _time(cursor.key()) if cursor.last() else "-"
            if databases["changes"] is not None:
                cursor = transaction.cursor(databases["changes"])
                found["last change"] = int.from_bytes(cursor.key(), "big") if cursor.last() else 0
            used = sum(
                stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
                for stat in (transaction.stat(each) for each in databases.values() if each is not None)
            )
            layout = None if databases["info"] is None else transaction.get(b"layout", db=databases["info"])
            return found | {
                "layout": 1 if layout is None else int(bytes(layout)),
                "used bytes": used * info["page_size"],
            }

        facts = {"path": str(path), **environment.read(look)}
        facts["size bytes"] = environment.data_file.stat().st_size
        facts["map bytes"], facts["readers"] = info["map_size"], info["num_readers"]
    store = LmdbRecordStore(path=path, readonly=True)
    store.open()
    try:
        facts["positions"] = dict(store.positions())
    finally:
        store.close()
    return facts


def verify(path: Path) -> tuple[int, list[str]]:
    """Return the number of records in a file, and its problems; the pages are read before they are mapped."""
    file = path / "data.mdb" if path.is_dir() else path
    if problems := find_damage(file, most_pages=None):
        return 0, problems
    count = 0
    with _opened(path) as environment, environment.reading() as transaction:
        databases = environment.databases
        for key, value in transaction.cursor(databases["records"]):
            count += 1
            try:
                decode(value)
            except CodecError as error:
                problems.append(f"{shown(bytes(key))!r} is not a record: {error}")
        if databases["times"] is not None and (found := transaction.stat(databases["times"])["entries"]) != count:
            problems.append(f"{found} of {count} records are in the order of time")
    return count, problems


def compact(path: Path, to: Path | None) -> tuple[int, int]:
    """Copy a file without its free pages, to its own place or another; return its size before and after.

    Raises:
        StoreError: another process has it open, or has changed it meanwhile, or there is a file at `to`.
    """
    file = path / "data.mdb" if path.is_dir() else path
    target = to if to is not None else file
    if to is not None and to.exists():
        raise StoreError(f"{to}: is there already; choose another path", retryable=False)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with _opened(path) as environment:
            before = environment.copy_to(temporary)
        with contextlib.nullcontext() if to is not None else _alone(file):
            if to is None and _transaction(file) != before:
                raise StoreError(f"{path}: was changed meanwhile; try again")
            sizes = file.stat().st_size, temporary.stat().st_size
            temporary.replace(target)
    except lmdb.Error as error:
        raise StoreError(f"{path}: cannot be copied to {temporary}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return sizes


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Environment]:
    environment = Environment(path, where=str(path), readonly=True, map_size=0, max_size=None, flush_commits=True)
    try:
        yield environment
    finally:
        environment.close()


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Prevent others from opening a file in this block. Raises StoreError if another process has it open.

    LMDB holds a shared lock on the first byte of the lock file as long as a process has it open.
    """
    lock = file.with_name("lock.mdb" if file.name == "data.mdb" else f"{file.name}-lock")
    try:
        import fcntl  # not on Windows, where a file that is open cannot be replaced
    except ImportError:
        yield
        return
    with open(lock, "a+b") as opened:
        try:
            fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
        except OSError as error:
            raise StoreError(f"{file}: another process has it open; end that first, or use --to") from error
        yield


def _transaction(file: Path) -> int:
    with open(file, "rb") as opened:
        meta = read_meta(opened)
    return -1 if isinstance(meta, str) else meta.transaction


def _time(key: Any) -> str:
    time_ns = int.from_bytes(key, "big") - (1 << 63)
    try:
        return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{time_ns} ns"
