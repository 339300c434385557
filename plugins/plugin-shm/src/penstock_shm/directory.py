"""The directory of shared memory: one per user, on a tmpfs, with an entry for each kind and name."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from penstock.errors import CannotConnectToStoreError, ConfigError, PenstockError
from penstock.short_text import short

VARIABLE = "PENSTOCK_SHM_DIR"
"""Environment variable that names another directory than the default; it should be on a tmpfs."""

KINDS = ("channel", "array", "objects")

UNFINISHED = ".new-"
"""Prefix of the name of a file that is still being written; `to_file_name` never returns a name with it."""

_UNUSABLE = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE)
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_LONGEST = 180


def root() -> Path:
    """Return the directory of this user, `/dev/shm/penstock-<uid>`, created with mode 0700 if it is missing.

    Raises:
        CannotConnectToStoreError: the directory belongs to another user, others may write to it (and it is not sticky),
            or this system has no `/dev/shm` and `PENSTOCK_SHM_DIR` is not set.
    """
    require_linux()
    chosen = os.environ.get(VARIABLE)
    path = Path(chosen) if chosen else Path("/dev/shm") / f"penstock-{os.getuid()}"
    try:
        found = _made(path, with_parents=bool(chosen))
    except OSError as error:
        raise CannotConnectToStoreError(
            f"shared memory: cannot use directory {path} ({error.strerror}); set {VARIABLE} to one on a tmpfs"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise CannotConnectToStoreError(
            f"shared memory: {path} is not a directory of user {os.getuid()}; remove it or set {VARIABLE}"
        )
    if _others_may_remove(found):
        raise CannotConnectToStoreError(
            f"shared memory: others may write to {path} (mode {stat.S_IMODE(found.st_mode):04o}), so they could "
            f"replace your data; run `chmod 700 {path}`, or set {VARIABLE} to a directory of your own"
        )
    return path


def _others_may_remove(found: os.stat_result) -> bool:
    """Return whether another user may remove or rename entries in a directory of this user."""
    if found.st_mode & stat.S_ISVTX:
        return False
    of_group = found.st_mode & stat.S_IWGRP and found.st_gid != os.getgid()
    return bool(found.st_mode & stat.S_IWOTH or of_group)


def _made(path: Path, *, with_parents: bool) -> os.stat_result:
    """Create the directory if it is missing, and return its status; others may remove and recreate it meanwhile."""
    while True:
        if with_parents:
            os.makedirs(path.parent, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        with contextlib.suppress(FileNotFoundError):
            return path.lstat()


@contextlib.contextmanager
def usable(what: str) -> Iterator[None]:
    """Convert the system's error about a full, forbidden or read-only directory into one with a remedy.

    Raises:
        CannotConnectToStoreError: no descriptors were left, or space or permission in the directory was lacking.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, PenstockError) or error.errno not in _UNUSABLE:
            raise
        where = os.environ.get(VARIABLE) or "/dev/shm"
        raise CannotConnectToStoreError(
            f"{what}: cannot use {where} ({error.strerror}); free some space there (penstock shm clean; mount -o "
            f"remount,size=…; docker --shm-size), or set {VARIABLE} to another directory"
            if error.errno != errno.EMFILE
            else f"{what}: {error.strerror}; increase the limit (ulimit -n)"
        ) from error


def require_linux() -> None:
    """Raise CannotConnectToStoreError unless this is Linux, whose memfd, seals and open-file locks are used."""
    if sys.platform != "linux":
        raise CannotConnectToStoreError(
            f"penstock-shm works on Linux only, and this is {sys.platform}; use the 'zenoh' store and source here"
        )


def check_name(name: str, what: str) -> str:
    """Return `name`. Raises ConfigError if it is empty, too long, contains NUL or cannot be encoded."""
    try:
        size_bytes = len(name.encode()) if isinstance(name, str) else 0
    except UnicodeEncodeError:
        size_bytes = 0
    if not 1 <= size_bytes <= 4096 or "\0" in name:
        raise ConfigError(f"{what} {short(name)}: a name is a string of 1 to 4096 bytes of UTF-8 without NUL")
    return name


def to_file_name(name: str) -> str:
    """Return a file name for any text: unique for each text, and readable where possible."""
    quoted = "".join(c if c in _PLAIN else "".join(f"%{b:02x}" for b in c.encode()) for c in name)
    if quoted.startswith("."):
        quoted = "%2e" + quoted[1:]
    if len(quoted) > _LONGEST:
        quoted = f"{quoted[:100]}%-{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"
    return quoted


def to_name(file_name: str) -> str:
    """Return the text of which `to_file_name` made this name; of a long text, the start of the file name."""
    shown, long, _ = file_name.partition("%-")
    return file_name if long else unquote(shown, errors="replace")


def path_of(kind: str, name: str) -> Path:
    """Return the path of the channel, array or object store of this name; creates the parent if it is missing."""
    path = root() / kind / to_file_name(name)
    make_directory(path.parent)
    return path


def make_directory(path: Path) -> None:
    """Create a directory below the root, and its parents, for this user only; others may remove any meanwhile."""
    while True:
        try:
            os.mkdir(path, 0o700)
            return
        except FileExistsError:
            return  # exist_ok=True would check that it is a directory, and by then it may have been removed
        except FileNotFoundError:
            make_directory(path.parent)


def tidy(path: Path) -> None:
    """Remove a directory below the root and its parents if they are empty; a root set by the user is kept."""
    top = Path(os.environ.get(VARIABLE) or "/dev/shm")
    with contextlib.suppress(OSError):  # in use, or already removed
        while path != top:
            path.rmdir()
            path = path.parent


@contextlib.contextmanager
def locked_directory(path: Path, *, timeout_s: float = 10.0, make: bool = True) -> Iterator[int]:
    """Create the directory if it is missing, lock it, and yield its descriptor.

    The kernel releases the lock when its holder dies.

    Raises:
        CannotConnectToStoreError: another process, suspended perhaps, has held the lock for `timeout_s` seconds.
        FileNotFoundError: it is missing, and `make` is False.
    """
    until = time.monotonic() + timeout_s
    pause_s = 0.0005
    while True:
        if make:
            make_directory(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            if make:
                continue
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(path, descriptor):
                break
            os.close(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            if time.monotonic() >= until:
                raise CannotConnectToStoreError(
                    f"shared memory: {path} has been locked by another process for {timeout_s:g} s; is one suspended?"
                ) from None
            time.sleep(pause_s)  # the kernel has no lock with a timeout
            pause_s = min(pause_s * 2, 0.02)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is(path: Path, descriptor: int) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (named.st_ino, named.st_dev) == (opened.st_ino, opened.st_dev)
