"""A lock of a directory, for pairs of files."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from penstock.errors import StoreError

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL}
_HERE = threading.RLock()
"""A substitute where the system has no locks of directories."""


@contextlib.contextmanager
def locked(directory: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a directory, against other threads and processes that ask for it.

    The kernel releases it when its holder dies. If the file system or the system has no such lock, it only works
    between the threads of this process.

    Args:
        directory: The directory, which must exist.
        shared: True for reading: shared locks do not exclude each other.
    """
    fd = _lock(directory, shared=shared)
    if fd is None:
        with _HERE:
            yield
        return
    try:
        yield
    finally:
        os.close(fd)


def lock_exclusively(fd: int, path: Path) -> None:
    """Lock an open file for this process until it is closed.

    Raises:
        StoreError: another process, or another store of this one, has locked it. Retryable.
    """
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(f"{path}: another writer has it open; close that, or write elsewhere") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _lock(directory: str, *, shared: bool) -> int | None:
    if sys.platform == "win32":
        return None
    import fcntl

    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except OSError as error:
        os.close(fd)
        if error.errno not in _NO_LOCKS:
            raise
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd
