"""The buffer of an object store: changes that wait for a commit, and the thread that commits them in time."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator

from penstock.errors import PenstockError, StoreError
from penstock_lmdb.environment import Environment
from penstock_lmdb.object_table import ObjectTable, Put

_log = logging.getLogger(__name__)
_MOST_BYTES = 1 << 26
_OVERHEAD = 200

Changes = dict[bytes, Put | None]


class Buffer:
    """Hold changes by id until they are committed, after a limited time.

    More than 64 MiB are committed at once. While a commit fails (a full disk), changes stay, in their order, and are
    retried; the first failure is logged, and `add` raises it as soon as the buffer is full.
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

    def add(self, key: bytes, put: Put | None) -> None:
        """Add a change; a later one of the same id replaces it."""
        with self._lock:
            self._waiting[key] = put
            if put is not None:
                self._newest[put.name] = key
            self._size += _OVERHEAD + (len(put.value) if put is not None else 0)
            full = self._size > _MOST_BYTES
            if self._thread is None:
                self._thread = threading.Thread(target=self._commit_in_time, name="lmdb commits", daemon=True)
                self._thread.start()
        if not self._some.is_set():
            self._some.set()
        if full:
            self.commit()

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
        """Commit the waiting changes. Raises StoreError; then they are kept."""
        with self._commits:
            with self._lock:
                # Changes are left if an earlier commit was interrupted.
                changes, size = {**self._committing, **self._waiting}, self._size
                self._committing, self._waiting, self._size = changes, {}, 0
                self._some.clear()
            if not changes:
                self._environment.read(lambda txn: None)  # raises if it can no longer be used
                return
            try:
                self._write(changes, size)
            except BaseException:
                with self._lock:
                    self._waiting = {**changes, **self._waiting}
                    self._committing = {}
                    self._size += size
                    self._some.set()
                raise
            with self._lock:
                self._committing = {}
                self._newest = {put.name: key for key, put in self._waiting.items() if put is not None}
        self._failed = False

    def _write(self, changes: Changes, size: int) -> None:
        """Write changes; if they do not fit, first those that delete, which makes room for the others."""
        try:
            self._apply(changes, size)
        except StoreError:
            deletes: Changes = {key: None for key, put in changes.items() if put is None}
            if not 0 < len(deletes) < len(changes):
                raise
            self._apply(deletes, 0)
            with self._lock:  # the rest is kept if it does not fit now, either
                for key in deletes:
                    del changes[key]
            self._apply(changes, size)

    def _apply(self, changes: Changes, size: int) -> None:
        self._environment.change(
            lambda txn: self._table.apply(txn, changes),
            size_bytes=size,
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
