"""The buffer of an object store: changes that wait for a commit, and the thread that commits them in time."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from typing import Final

import attrs

from penstock.errors import PenstockError, StoreError
from penstock_lmdb.environment import Environment
from penstock_lmdb.object_table import ObjectTable, Put

_log = logging.getLogger(__name__)
_MOST_BYTES = 1 << 26
_OVERHEAD = 200
_MOST_REFUSED = 8
"""Objects without room after which no others are tried: the store is full, and each costs a transaction."""

Changes = dict[bytes, Put | None]


class _Nothing:
    """No change waited for an id."""


_NOTHING: Final = _Nothing()


@attrs.frozen
class Change:
    """A change that was added: an object, or None that deletes, and what waited for its id before it."""

    key: bytes
    put: Put | None
    before: Put | _Nothing | None


class Buffer:
    """Hold changes by id until they are committed, after a limited time.

    More than 64 MiB are committed at once. Where there is no room for all changes, those that fit are committed; the
    others stay, and are retried; the first failure is logged. A change for which `settle` raises does not stay.
    """

    def __init__(self, environment: Environment, table: ObjectTable, where: str, commit_freq: float) -> None:
        self._environment, self._table, self._where, self._commit_freq = environment, table, where, commit_freq
        self._waiting: Changes = {}
        self._committing: Changes = {}
        self._newest: dict[str, bytes] = {}
        self._size = 0
        self._lock = threading.RLock()
        self._commits = threading.Lock()
        self._some = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._failed = False

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Prevent other threads from adding a change in this block, so that it can depend on the present content."""
        with self._lock:
            yield

    def add(self, key: bytes, put: Put | None, *, now: bool = False) -> Change | None:
        """Add a change; a later one of the same id replaces it. None deletes.

        Returns:
            What to pass to `settle`, if it is to be committed `now` or the buffer is full; else None.
        """
        with self._lock:
            before = self._waiting.get(key, _NOTHING)
            self._waiting[key] = put
            self._size += _OVERHEAD
            if put is not None:
                self._newest[put.name] = key
                self._size += len(put.value)
            full = self._size > _MOST_BYTES
            if self._thread is None:
                self._thread = threading.Thread(target=self._commit_in_time, name="lmdb commits", daemon=True)
                self._thread.start()
        if not self._some.is_set():
            self._some.set()
        return Change(key, put, before) if now or full else None

    def settle(self, change: Change) -> None:
        """Commit a change and all others. Not to be called within `changing`.

        Raises:
            StoreError: there is no room for this change: it is as if it had not been added.
        """
        with self._commits:
            try:
                self._commit()
            except StoreError:
                if self._take_back(change):
                    raise  # otherwise, it was committed, and others stay

    def _take_back(self, change: Change) -> bool:
        """Return to the change before this one, if it still waits; return whether it did."""
        with self._lock:
            if change.key not in self._waiting or self._waiting[change.key] is not change.put:
                return False
            if isinstance(change.before, _Nothing):
                del self._waiting[change.key]
            else:
                self._waiting[change.key] = change.before
            self._size -= _size_of(change.put)
            return True

    def pending(self) -> Changes:
        """Return the changes that are not in the file yet."""
        with self._lock:
            return {**self._committing, **self._waiting}

    def find(self, key: bytes) -> tuple[bool, Put | None]:
        """Return whether a change of this id waits, and the object if it was put."""
        with self._lock:
            for changes in (self._waiting, self._committing):
                if key in changes:
                    return True, changes[key]
        return False, None

    def find_name(self, name: str) -> bytes | None:
        """Return the id of the object that waits and was put last under this name."""
        with self._lock:
            if name not in self._newest:
                return None
            waiting, put = self.find(self._newest[name])
            if waiting and put is not None and put.name == name:
                return self._newest[name]
            found = [(put.number, key) for key, put in self.pending().items() if put is not None and put.name == name]
            return max(found)[1] if found else None

    def commit(self) -> None:
        """Commit the waiting changes. Raises StoreError; then those that do not fit are kept."""
        with self._commits:
            self._commit()

    def _commit(self) -> None:
        with self._lock:
            # Changes are left if an earlier commit was interrupted.
            changes = {**self._committing, **self._waiting}
            self._committing, self._waiting, self._size = changes, {}, 0
            self._some.clear()
        if not changes:
            self._environment.read(lambda txn: None)  # raises if it can no longer be used
            return
        try:
            self._write(changes)
        except BaseException:
            with self._lock:
                self._waiting = {**changes, **self._waiting}
                self._committing = {}
                self._size += sum(map(_size_of, changes.values()))
                self._some.set()
            raise
        with self._lock:
            self._committing = {}
            self._newest = {put.name: key for key, put in self._waiting.items() if put is not None}
        self._failed = False

    def _write(self, changes: Changes) -> None:
        """Write changes, and remove those that are written; if not all fit, deletes, which make room, come first."""
        try:
            self._apply(changes)
        except StoreError:
            deletes: Changes = {key: None for key, put in changes.items() if put is None}
            if len(deletes) == len(changes):
                raise
            if deletes:
                self._apply(deletes)
                self._remove(changes, deletes)
            elif len(changes) == 1:
                raise
            self._write_what_fits(changes)

    def _write_what_fits(self, changes: Changes) -> None:
        """Write the objects that fit, and remove them: a large one must not hold up its neighbours."""
        parts, refused, error = [list(changes.items())], 0, None
        while parts and refused < _MOST_REFUSED:
            part = parts.pop()
            try:
                self._apply(dict(part))
            except StoreError as failed:
                error, half = failed, len(part) // 2
                if half:
                    parts += [part[half:], part[:half]]
                else:
                    refused += 1
            else:
                self._remove(changes, dict(part))
        if error is not None and changes:
            waits = next(put for put in changes.values() if put is not None)
            raise StoreError(
                f"{error}; {len(changes)} waiting, the first is {waits.name!r} of {len(waits.value)} bytes",
                retryable=error.retryable,
            ) from error

    def _remove(self, changes: Changes, written: Changes) -> None:
        with self._lock:
            for key in written:
                del changes[key]

    def _apply(self, changes: Changes) -> None:
        self._environment.change(
            lambda txn: self._table.apply(txn, changes),
            size_bytes=sum(map(_size_of, changes.values())),
            essential=all(put is None for put in changes.values()),
        )

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._some.set()
        if self._thread is not None and self._process == os.getpid():
            self._thread.join()

    def _commit_in_time(self) -> None:
        while not self._stopped.is_set():
            self._some.wait()
            if self._stopped.wait(self._commit_freq):
                return
            try:
                self.commit()
            except PenstockError as error:
                if not self._failed:
                    self._failed = True
                    _log.warning("%s: objects cannot be committed, and are retried: %s", self._where, error)


def _size_of(put: Put | None) -> int:
    return _OVERHEAD + (0 if put is None else len(put.value))
