"""Room on the disk, allocated before writes, so that a full disk refuses writes and never deletes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import lmdb

from penstock.errors import StoreError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # not available

RESERVE = 1 << 17
"""Bytes on the disk that only deleting, and keeping positions, may use."""

PLENTY = 1 << 26
"""Bytes that are free on a disk that is not nearly full."""

_STEP = 1 << 16
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@attrs.define
class Room:
    """Allocate the blocks of a data file before a transaction writes to them."""

    path: Path
    where: str
    _allocated: int = 0

    def take(self, env: lmdb.Environment, databases: Iterable[Any], size_bytes: int) -> int | None:
        """Allocate what a transaction of this size may need, and the reserve, if the disk is nearly full.

        Returns:
            None; or, where the disk is full, the size in bytes that the file must not exceed, so that the transaction
            takes the free space in it, and leaves the reserve.

        Raises:
            StoreError: the disk is full, and the free space within the file is not enough. Retryable.
        """
        page = int(env.stat()["psize"])
        used = (int(env.info()["last_pgno"]) + 1) * page
        wanted = used + size_bytes + RESERVE
        if wanted <= self._allocated or not hasattr(os, "posix_fallocate") or self._has_plenty(size_bytes):
            return None
        step = max(_STEP, used // 16 // _STEP * _STEP)
        wanted = -(-wanted // step) * step
        try:
            self._allocate(wanted)
        except OSError as error:
            if error.errno not in _FULL:
                return None  # a file system that cannot allocate ahead
            if _free_bytes(env, databases, page, used) < size_bytes + RESERVE:
                raise StoreError(
                    f"{self.where}: the disk is full ({error.strerror}), nothing of this call was written; delete "
                    "records or free some space, then try again"
                ) from error
            return max(used, (os.stat(self.path).st_size - RESERVE) // page * page)
        return None

    def _has_plenty(self, size_bytes: int) -> bool:
        """Return whether the disk has so much room that nothing needs to be allocated in advance, which takes time."""
        if resource is not None and resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
            return False
        try:
            found = os.statvfs(self.path)
        except OSError:
            return False
        return found.f_bavail * found.f_frsize > PLENTY + 2 * size_bytes

    def _allocate(self, wanted: int) -> None:
        file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(file).st_size
            if wanted > size:
                os.posix_fallocate(file, size, wanted - size)
        finally:
            os.close(file)
        self._allocated = wanted

    def trim(self, env: lmdb.Environment) -> None:
        """Truncate the file to its last page. The caller holds the lock of writers."""
        size = (int(env.info()["last_pgno"]) + 1) * int(env.stat()["psize"])
        self._allocated = 0
        os.truncate(self.path, size)


def _free_bytes(env: lmdb.Environment, databases: Iterable[Any], page: int, used: int) -> int:
    """Return the approximate number of free bytes within the file."""
    with env.begin() as transaction:
        stats: list[Any] = [env.stat(), *(transaction.stat(database) for database in databases if database is not None)]
    pages = sum(int(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) for stat in stats)
    return used - page * (4 + pages)
