"""Make files durable together: many of them by one call for the whole file system, where that reports all errors."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import attrs

_TOGETHER = 16
"""Files from which on they are flushed together: with their file system, or by threads, which share its commits."""
_MOST_DEVICES = 8
_REPORTS_ERRORS = (5, 8)
"""The version of Linux since which syncfs reports errors of writing back: man 2 syncfs."""


@attrs.define(eq=False)
class Unsynced:
    """The files that were written and are not durable yet.

    `syncfs` flushes a file system in one go: for 500 small files it took a hundredth of the processor's time and a
    fifth of the time of 500 fsyncs. It reports errors that happened since its descriptor was opened, so that one is
    held from before the first file is written. If it is missing, or reports an error that may be of another process,
    each file is flushed separately.
    """

    _files: dict[str, None] = attrs.field(factory=dict, init=False)
    _directories: dict[str, int] = attrs.field(factory=dict, init=False)
    _devices: dict[int, int] = attrs.field(factory=dict, init=False)

    def watch(self, directory: str) -> None:
        """Open the descriptor that reports errors of a directory's file system, before the first write to it."""
        if _syncfs() is None:
            return
        device = os.stat(directory).st_dev
        if device in self._devices or len(self._devices) >= _MOST_DEVICES:
            return
        self._devices[device] = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)

    def add(self, name: str, directory: str) -> None:
        """Note a file that was written, and its directory."""
        self._files[name] = None
        self._directories[directory] = 0

    def add_directory(self, directory: str) -> None:
        """Note a directory whose entries have changed."""
        self._directories[directory] = 0

    def forget(self, name: str) -> None:
        """Note that a file was removed by its owner."""
        self._files.pop(name, None)
        self._directories[os.path.dirname(name) or "."] = 0

    def sync(self) -> None:
        """Return when all files, and their names, are durable.

        Raises:
            FileNotFoundError: some are gone; so they are at each further call.
            OSError: they cannot be made durable; they are tried again by the next call.
        """
        gone = self._sync_at_once() if len(self._files) >= _TOGETHER else None
        if gone is None:
            gone = _sync_each(self._files)
            _sync_each(self._directories)
        if gone:
            self._files.update(dict.fromkeys(gone))
            message = f"{len(gone)} that were written since the last sync are gone, the first is {gone[0]}"
            raise FileNotFoundError(errno.ENOENT, message)

    def _sync_at_once(self) -> list[str] | None:
        """Flush the file systems; return the files that are gone, or None if each must be flushed separately."""
        call = _syncfs()
        if call is None:
            return None
        devices = set()
        for directory in self._directories:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                devices.add(os.stat(directory).st_dev)
        if not devices <= self._devices.keys() or not all(call(self._devices[device]) for device in devices):
            return None
        gone = [name for name in self._files if not os.path.lexists(name)]
        self._files.clear()
        self._directories.clear()
        return gone

    def close(self) -> None:
        """Close the descriptors of the file systems, any number of times."""
        while self._devices:
            os.close(self._devices.popitem()[1])


def _sync_each(pending: dict[str, None] | dict[str, int]) -> list[str]:
    """Make all of them durable, and return those that are gone."""
    gone = []
    if len(pending) < _TOGETHER:
        for name in list(pending):
            if not sync_path(name):
                gone.append(name)
            del pending[name]
        return gone
    with ThreadPoolExecutor(_TOGETHER, thread_name_prefix="npy-sync") as pool:
        for name, done in [(name, pool.submit(sync_path, name)) for name in pending]:
            if not done.result():
                gone.append(name)
            del pending[name]
    return gone


def sync_path(path: str) -> bool:
    """Make a file or directory durable; return False if it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return True


@lru_cache(maxsize=1)
def _syncfs() -> Callable[[int], bool] | None:
    """Return a function that flushes the file system of a descriptor and returns its success; None if there is none."""
    version = re.match(r"(\d+)\.(\d+)", os.uname().release) if sys.platform == "linux" else None
    if version is None or (int(version[1]), int(version[2])) < _REPORTS_ERRORS:
        return None
    import ctypes

    try:
        function = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None
    return lambda fd: function(fd) == 0
