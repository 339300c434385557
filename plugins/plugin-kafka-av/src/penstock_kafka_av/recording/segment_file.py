"""SegmentFile: a video written under a temporary name, and renamed when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Self

import attrs

from penstock.whole_files import sync_directory
from penstock_kafka_av.recording.journal import journal_of, line_of, part_of, read_journal, video_of, whole_of

try:
    import fcntl
except ImportError:  # Windows, where a file cannot be renamed while another process has it open
    fcntl = None  # type: ignore[assignment]

_MAKE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_AGAIN = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}


@attrs.define(eq=False)
class SegmentFile:
    """Append fragments to a video, and a line for each to its journal.

    While it is written, the video is `….part.mp4` beside its final name, and can be played; its journal
    `….part.mp4.jsonl` is locked, so that other processes detect the writer. After `kill -9`, the video ends with its
    last complete fragment, or with part of one that has no line in the journal; `recover` truncates that.

    Attributes:
        path: The final name.
        replace: Whether it replaces an existing file of that name.
        size_bytes: Size of the video in bytes.
        fragments: Number of its fragments.
    """

    path: Path
    replace: bool
    size_bytes: int = 0
    fragments: int = 0
    _journal_bytes: int = 0
    _video: int = -1
    _journal: int = -1

    @classmethod
    def begin(cls, path: Path, head: bytes, entry: Mapping[str, Any], *, replace: bool) -> Self:
        """Create both files, with the header of the video and the first line of the journal.

        Raises:
            FileExistsError: a video of this name is being written already.
            OSError: the files cannot be created; nothing of them is left.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        part = part_of(path)
        self = cls(path, replace)
        self._journal = os.open(journal_of(part), _MAKE, 0o666)
        try:
            _lock(self._journal)
            self._video = os.open(part, _MAKE, 0o666)
            line = line_of({**entry, "replace": replace})
            _write_all(self._video, head)
            _write_all(self._journal, line)
            self.size_bytes, self._journal_bytes = len(head), len(line)
        except BaseException:
            self.discard()
            raise
        return self

    def append(self, fragment: bytes | memoryview, entry: Mapping[str, Any]) -> None:
        """Write a fragment and its line in the journal. Raises OSError, and then neither was written."""
        line = line_of({"offset": self.size_bytes, "size_bytes": len(fragment), **entry})
        try:
            _write_all(self._video, fragment)
            _write_all(self._journal, line)
        except OSError:
            _cut(self._video, self.size_bytes)
            _cut(self._journal, self._journal_bytes)
            raise
        self.size_bytes += len(fragment)
        self._journal_bytes += len(line)
        self.fragments += 1

    def sync(self) -> None:
        """Make everything written durable. Raises OSError; FileNotFoundError if the file was removed."""
        if not os.fstat(self._video).st_nlink:
            raise FileNotFoundError(
                errno.ENOENT, "was removed while it was being written", os.fspath(part_of(self.path))
            )
        os.fsync(self._video)
        os.fsync(self._journal)
        sync_directory(self.path.parent)

    def finish(self) -> Path | None:
        """Make the video durable, rename it to its final name and return that; remove it if it has no fragment.

        If the name was taken in the meantime, the next number is appended: "front-1.mp4". Raises OSError.
        """
        if not self.fragments:
            self.discard()
            return None
        self.sync()
        path = _place(part_of(self.path), replace=self.replace)
        self.close()
        sync_directory(path.parent)
        return path

    def discard(self) -> None:
        """Remove both files."""
        self._unlink()
        self.close()

    def close(self) -> None:
        """Close both files without renaming; may be called any number of times."""
        for fd in (self._video, self._journal):
            if fd >= 0:
                os.close(fd)
        self._video = self._journal = -1

    def _unlink(self) -> None:
        part = part_of(self.path)
        for fd, name in ((self._video, part), (self._journal, journal_of(part))):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.unlink(name)


def recover(journal: Path) -> Path | None:
    """Finish the video of a process that died: truncate a partial fragment, and rename it to its final name.

    Returns:
        The final name; None if another process is still writing the video, or if it was empty and was removed.

    Raises:
        OSError: the video cannot be read or renamed.
    """
    part = video_of(journal)
    try:
        fd = os.open(journal, _AGAIN)
    except FileNotFoundError:  # another process was faster
        return None
    try:
        if not _try_lock(fd) or not os.fstat(fd).st_nlink:
            return None
        found = read_journal(_content(fd))
        if not part.exists():
            whole = whole_of(part)
            if found is not None and found.fragments and whole.exists() and not journal_of(whole).exists():
                os.replace(journal, journal_of(whole))  # killed between the two renames
                return whole
            os.unlink(journal)
            return None
        size = part.stat().st_size
        ends = [
            (fragment["offset"] + fragment["size_bytes"], end)
            for fragment, end in zip(found.fragments, found.ends, strict=True)
            if fragment["offset"] + fragment["size_bytes"] <= size
        ] if found is not None else []  # fmt: skip
        if found is None or not ends:
            os.unlink(part)
            os.unlink(journal)
            return None
        os.ftruncate(fd, ends[-1][1])
        with open(part, "r+b") as video:
            video.truncate(ends[-1][0])
            os.fsync(video.fileno())
        os.fsync(fd)
        path = _place(part, replace=found.segment.get("replace") is True)
        sync_directory(path.parent)
        return path
    finally:
        os.close(fd)


def numbered(path: Path) -> Iterator[Path]:
    """Yield "front-1.mp4", "front-2.mp4" and so on."""
    return (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(1))


def _place(part: Path, *, replace: bool) -> Path:
    """Rename a video and its journal to their final names: the video first, as `recover` expects."""
    path = whole_of(part)
    if replace:
        os.replace(part, path)
    else:
        names = numbered(path)
        while not _renamed(part, path):
            path = next(names)
    os.replace(journal_of(part), journal_of(path))
    return path


def _renamed(part: Path, path: Path) -> bool:
    """Rename without overwriting; return False if the name is taken."""
    if os.path.lexists(path):
        return False
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(part, path)  # no hard links on this file system: may overwrite a file created in this moment
        return True
    os.unlink(part)
    return True


def _write_all(fd: int, content: bytes | memoryview) -> None:
    rest = memoryview(content)
    while len(rest):
        rest = rest[os.write(fd, rest) :]


def _cut(fd: int, size_bytes: int) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(fd, size_bytes)
        os.lseek(fd, size_bytes, os.SEEK_SET)


def _content(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _lock(fd: int) -> None:
    if not _try_lock(fd):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _try_lock(fd: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
