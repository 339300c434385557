"""WholeFiles: writes files atomically."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

import attrs

from penstock.whole_files import sync_directory

_UNNAMED = getattr(os, "O_TMPFILE", 0)
_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.ENOSYS}
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}


@attrs.define(eq=False)
class WholeFiles:
    """Write files atomically, and make them durable together.

    A file is written without a name (O_TMPFILE on Linux), or as `.….tmp` in its directory, and linked to its name when
    it is complete: a kill never leaves a partial file under that name, and on Linux leaves nothing at all.
    """

    _unsynced: dict[Path, None] = attrs.field(factory=dict)
    _directories: dict[Path, None] = attrs.field(factory=dict)

    def write(self, path: Path, content: bytes, *, replace: bool) -> None:
        """Write a file. Raises FileExistsError unless `replace`; raises OSError and leaves nothing if writing fails."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not replace and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        if replace or not _written_unnamed(path, content):
            _write_named(temporary, path, content, replace=replace)
        self._unsynced[path] = None
        self._directories[path.parent] = None

    def sync(self) -> None:
        """Make all files written durable. Raises OSError; FileNotFoundError if a file was removed."""
        for path in list(self._unsynced):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            del self._unsynced[path]
        for directory in list(self._directories):
            sync_directory(directory)
            del self._directories[directory]


def _written_unnamed(path: Path, content: bytes) -> bool:
    """Write a file without a name, then link it to its name; return False if the file system cannot do so."""
    if not _UNNAMED:
        return False
    try:
        fd = os.open(path.parent, os.O_WRONLY | _UNNAMED | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in _NO_UNNAMED:
            return False
        raise
    try:
        _write_all(fd, content)
        # with a src_dir_fd, Python calls linkat, which follows the link in /proc to the unnamed file
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
    except FileNotFoundError:  # no /proc
        return False
    finally:
        os.close(fd)
    return True


def _write_named(temporary: Path, path: Path, content: bytes, *, replace: bool) -> None:
    try:
        fd = os.open(temporary, _MAKE, 0o666)
        try:
            _write_all(fd, content)
        finally:
            os.close(fd)
        if replace:
            os.replace(temporary, path)
            return
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.rename(temporary, path)
            return
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    os.unlink(temporary)


def _write_all(fd: int, content: bytes) -> None:
    rest = memoryview(content)
    while len(rest):
        rest = rest[os.write(fd, rest) :]
