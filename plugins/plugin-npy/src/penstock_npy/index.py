"""The index of a directory of files: the fields of each record, as a line of JSON, in one file for each channel.

`.index/<channel>.jsonl` below the root begins with a line that says so and names the template; each other line is

    {"path": "camera/000007.npy", "file": [inode, mtime_ns], "channel": "camera", "seq": 7, "time_ns": …,
     "discontinuity": false, "coords": {…}, "metadata": {…}}

Lines are only added. The line of a file is written before the file gets its name, so that each file has its line; a
line without a file is ignored. Of several lines for one path, the one whose `file` is the present file counts; after
the archive was copied, the last one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from penstock.coords import DataCoordinates
from penstock.errors import CoordinatesError
from penstock.record import Record
from penstock_npy.channel_name import channel_name
from penstock_npy.tagged import tagged_text, untagged

DIRECTORY = ".index"
FORMAT = "penstock-npy index 1"
_log = logging.getLogger("penstock")
_MOST_OPEN = 64
FileId = tuple[int, int]
"""Inode and time of the last change, in nanoseconds."""


def file_id(status: os.stat_result) -> FileId:
    """Return the identity of a file, which distinguishes it from an earlier one of its name, unless it is copied."""
    return status.st_ino, status.st_mtime_ns


def entry_of(record: Record) -> str:
    """Return the line of a record, without the braces. Raises TypeError, ValueError."""
    return (
        f'"channel": {_text(record.channel)}, "seq": {int(record.seq)}, "time_ns": {int(record.time_ns)}, '
        f'"discontinuity": {"true" if record.discontinuity else "false"}, '
        f'"coords": {tagged_text(record.coords)}, "metadata": {tagged_text(record.metadata)}'
    )


@lru_cache(maxsize=1024)
def _text(channel: str) -> str:
    return json.dumps(channel)


def fields_of(line: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the record that a line is about. Raises ValueError."""
    try:
        return {
            "channel": line["channel"],
            "seq": line["seq"],
            "time_ns": line["time_ns"],
            "discontinuity": line["discontinuity"],
            "coords": DataCoordinates(untagged(line["coords"])),
            "metadata": untagged(line["metadata"]),
        }
    except (KeyError, TypeError, CoordinatesError) as error:
        raise ValueError(f"{str(line)[:80]} is not a line of an index: {error!r}") from error


@attrs.define
class Index:
    """Add lines to the index of a root, and look them up. Writing in one thread at a time; looking up in any.

    Attributes:
        root: The directory to which the paths are relative.
        template: The template of the paths, for `recover`.
    """

    root: Path
    template: str = ""
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _fds: dict[str, int] = attrs.field(factory=dict, init=False)
    _read: dict[str, int] = attrs.field(factory=dict, init=False)
    _lines: dict[str, list[tuple[str, int]]] = attrs.field(factory=dict, init=False)
    _reading: tuple[str, BinaryIO] | None = attrs.field(default=None, init=False)

    @property
    def directory(self) -> Path:
        """The directory of the index."""
        return self.root / DIRECTORY

    def path_of(self, channel: str) -> Path:
        """Return the file with the lines of a channel."""
        return self.directory / f"{channel_name(channel)}.jsonl"

    def add(self, path: str, identity: FileId, channel: str, entry: str) -> None:
        """Add the line of a file, given its path below the root; the caller holds the lock of `directory`.

        Raises:
            OSError: it could not be written; nothing of it is left.
        """
        self.append(self.path_of(channel), _line(path, identity, entry))

    def add_all(self, lines: Iterable[tuple[str, FileId, str, str]]) -> set[Path]:
        """Add the lines of files (path, identity, channel, entry); return their places. Otherwise as `add`."""
        texts: dict[str, list[str]] = {}
        for path, identity, channel, entry in lines:
            texts.setdefault(channel, []).append(_line(path, identity, entry))
        files = {channel: self.path_of(channel) for channel in texts}
        for channel, file in files.items():
            self.append(file, "".join(texts[channel]))
        return set(files.values())

    def append(self, file: Path, line: str) -> None:
        """Add a line, or several, to a file of the index. Raises OSError; nothing of them is left then."""
        fd, size = self._opened(file)
        data = line.encode("ascii")
        if not size:
            data = json.dumps({"format": FORMAT, "template": self.template}).encode("ascii") + b"\n" + data
        elif os.pread(fd, 1, size - 1) != b"\n":
            data = b"\n" + data  # another process died in the middle of a line
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
        except OSError:
            os.ftruncate(fd, size)
            raise

    def find(self, path: str, identity: FileId) -> dict[str, Any] | None:
        """Return the line that counts for a path, or None. Raises ValueError if it is damaged."""
        found = self._found(path, identity)
        if found is None or found.get("file") != [*identity]:
            self._catch_up()
            found = self._found(path, identity)
        return found

    def _found(self, path: str, identity: FileId) -> dict[str, Any] | None:
        found: dict[str, Any] | None = None
        for name, offset in reversed(self._lines.get(path, ())):
            with self._lock:
                text = self._line_at(name, offset)
            line = _parsed(text)
            if line is None or line.get("path") != path:
                continue
            if line.get("file") == [*identity]:
                return line
            found = found or line
        return found

    def coordinates(self) -> Iterator[tuple[str, FileId, DataCoordinates]]:
        """Yield path, file and coordinates of each line that can be read; those that count last come last."""
        for file in self.files():
            for path, identity, line in lines_of(file):
                with contextlib.suppress(ValueError, TypeError, CoordinatesError, KeyError):
                    yield path, identity, DataCoordinates(untagged(line["coords"]))

    def files(self) -> list[Path]:
        """Return the files of the index."""
        return sorted(self.directory.glob("*.jsonl"))

    def forget(self) -> None:
        """Forget the lines that were read: the files were rewritten."""
        self._read.clear()
        self._lines.clear()
        self.close()

    def close(self) -> None:
        """Close the files."""
        while self._fds:
            os.close(self._fds.popitem()[1])
        with self._lock:
            self._stop_reading()

    def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading[1].close()

    def _opened(self, file: Path) -> tuple[int, int]:
        """Return the file, open to append, and its size."""
        name = file.name
        fd = self._fds.get(name)
        if fd is not None:
            status = os.fstat(fd)
            if status.st_nlink:
                return fd, status.st_size
            os.close(self._fds.pop(name))
            _log.warning(
                "%s was removed while it was written to: `penstock recover %s` finds the files", file, self.root
            )
        if len(self._fds) >= _MOST_OPEN:
            os.close(self._fds.pop(next(iter(self._fds))))
        self.directory.mkdir(parents=True, exist_ok=True)
        fd = self._fds[name] = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        return fd, os.fstat(fd).st_size

    def _catch_up(self) -> None:
        """Note the places of the lines that were added since the last time."""
        with self._lock:
            try:
                entries = [(each.name, each.stat().st_size) for each in os.scandir(self.directory)]
            except FileNotFoundError:
                return
            for name, size in entries:
                if name.endswith(".jsonl") and size > self._read.get(name, 0):
                    self._note(name)

    def _note(self, name: str) -> None:
        offset = self._read.get(name, 0)
        with (self.directory / name).open("rb") as file:
            file.seek(offset)
            for text in file:
                if not text.endswith(b"\n"):
                    break  # another process is writing it
                line = _parsed(text)
                if line is not None and isinstance(line.get("path"), str):
                    self._lines.setdefault(line["path"], []).append((name, offset))
                offset += len(text)
        self._read[name] = offset

    def _line_at(self, name: str, offset: int) -> bytes:
        if self._reading is None or self._reading[0] != name:
            self._stop_reading()
            try:
                self._reading = name, (self.directory / name).open("rb")
            except FileNotFoundError:
                return b""
        file = self._reading[1]
        file.seek(offset)
        return file.readline()


def _line(path: str, identity: FileId, entry: str) -> str:
    return f'{{"path": {json.dumps(path)}, "file": [{identity[0]}, {identity[1]}], {entry}}}\n'


def lines_of(file: Path) -> Iterator[tuple[str, FileId, dict[str, Any]]]:
    """Yield path, file and all of each line of a file of the index that can be read, in their order."""
    with contextlib.suppress(FileNotFoundError), file.open("rb") as lines:
        for text in lines:
            line = _parsed(text)
            if line is not None and "path" in line:
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    inode, changed = line["file"]
                    yield line["path"], (inode, changed), line


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
