"""The lines of a json store: one record a line of a `.jsonl`, found by the index."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from penstock.coords import DataCoordinates
from penstock.errors import CannotGetObjectError, ObjectNotFoundError, RecordExistsError, StoreError
from penstock.record import Record
from penstock_npy.folder import Folder
from penstock_npy.index import entry_of, fields_of
from penstock_npy.pair_lock import lock_exclusively, locked
from penstock_npy.writing import name_of

_MOST_OPEN = 64
_GONE = (0, -1)
"""The mark of a deleted line in the index."""


@attrs.define(eq=False)
class JsonLines:
    """Append lines, and read them by their keys: the path of the file below the root, "#" and the seq.

    A line is written before the index names it. A store that continues a file first cuts off the bytes after the last
    line that the index names: a process died while it wrote them. A file that no index names is never cut.
    """

    folder: Folder
    lock: threading.RLock = attrs.field(factory=threading.RLock)
    _fds: dict[str, tuple[int, int]] = attrs.field(factory=dict, init=False)
    _own: set[str] = attrs.field(factory=set, init=False)

    def write(self, record: Record, text: bytes) -> None:
        """Append the line of a record.

        Raises:
            RecordExistsError: its key exists.
            StoreError: another store writes to the file.
            OSError: it cannot be written; nothing of it is left.
        """
        folder = self.folder
        path = folder.path_of(record)
        name = path.relative_to(folder.root).as_posix()
        key = f"{name}#{record.seq}"
        entry = entry_of(record)
        with self.lock:
            self._opened(path, name)
            if key in self._own or self._place(key) is not None:
                if folder.when_exists == "skip":
                    return
                raise RecordExistsError(
                    f"{folder.where}: record {name_of(record)}: {key} is there; when_exists='skip' if it comes again"
                )
            self._append(path, name, key, record, text, entry)

    def replace(self, key: str, record: Record, text: bytes) -> None:
        """Append the line of a record under the key of another, whose line becomes blank.

        Raises ObjectNotFoundError, StoreError, or OSError.
        """
        with self.lock:
            path, offset, size, _ = self._required(key)
            name = path.relative_to(self.folder.root).as_posix()
            fd, _ = self._opened(path, name)
            self._append(path, name, key, record, text, entry_of(record))
            os.pwrite(fd, b" " * size, offset)

    def delete(self, key: str) -> None:
        """Mark a line as deleted in the index, and make it blank.

        Raises ObjectNotFoundError, StoreError, or OSError.
        """
        with self.lock:
            path, offset, size, line = self._required(key)
            fd, _ = self._opened(path, path.relative_to(self.folder.root).as_posix())
            with locked(os.fspath(self.folder.index.directory)):
                self.folder.index.add(key, _GONE, line["channel"], entry_of(Record(None, **fields_of(line))))
            os.pwrite(fd, b" " * size, offset)
            self._own.discard(key)
            self.folder.writer.must_last(path)
            self.folder.writer.must_last(self.folder.index.path_of(line["channel"]))

    def _append(self, path: Path, name: str, key: str, record: Record, text: bytes, entry: str) -> None:
        folder = self.folder
        fd, end = self._opened(path, name)
        folder.reserve.take(len(text) + 1)
        folder.index.directory.mkdir(exist_ok=True)
        try:
            rest = memoryview(text + b"\n")
            offset = end
            while rest:
                written = os.pwrite(fd, rest, offset)
                rest, offset = rest[written:], offset + written
            with locked(os.fspath(folder.index.directory)):
                folder.index.add(key, (end, len(text)), record.channel, entry)
        except OSError:
            os.ftruncate(fd, end)
            raise
        self._fds[name] = fd, offset
        self._own.add(key)
        folder.writer.must_last(path)
        folder.writer.must_last(folder.index.path_of(record.channel))

    def get(self, key: str) -> tuple[bytes, dict[str, Any]]:
        """Return the line of a key, and the fields of its record. Raises ObjectNotFoundError, CannotGetObjectError."""
        path, offset, size, line = self._required(key)
        try:
            with path.open("rb") as file:
                file.seek(offset)
                text = file.read(size)
            return text, fields_of(line)
        except (OSError, ValueError) as error:
            raise CannotGetObjectError(f"{self.folder.where}: {key} cannot be read: {error}") from error

    def keys(self, coords: dict[str, Any]) -> Iterator[str]:
        """Yield the keys, those of a channel in the order of writing."""
        wanted = DataCoordinates(coords)
        sizes: dict[str, int] = {}
        lines: dict[str, tuple[tuple[int, int], DataCoordinates]] = {}
        for key, place, there in self.folder.index.coordinates():
            if key in lines and place != _GONE and lines[key][0] == _GONE:
                del lines[key]  # written again: behind the others
            lines[key] = place, there
        for key, ((offset, size), there) in lines.items():
            name, mark, _ = key.rpartition("#")
            if mark and name not in sizes:
                path = self.folder.file_at(name)
                sizes[name] = -1 if path is None else path.stat().st_size
            if mark and size >= 0 and offset + size <= sizes[name] and there.matches(wanted):
                yield key

    def has(self, key: object) -> bool:
        """Return whether there is a line of this key."""
        return isinstance(key, str) and self._place(key) is not None

    def close(self) -> None:
        """Close the files."""
        while self._fds:
            os.close(self._fds.popitem()[1][0])

    def _required(self, key: str) -> tuple[Path, int, int, dict[str, Any]]:
        found = self._place(key)
        if found is None:
            raise ObjectNotFoundError(
                f"{self.folder.where}: holds nothing of key {key!r:.200} below {self.folder.root}"
            )
        return found

    def _place(self, key: str) -> tuple[Path, int, int, dict[str, Any]] | None:
        name, mark, _ = key.rpartition("#")
        if not mark or self.folder.file_at(name) is None:
            return None
        line = self.folder.index.find(key, (-1, -1))
        if line is None:
            return None
        path = self.folder.root / name
        offset, size = line["file"]
        return (path, offset, size, line) if size >= 0 and offset + size <= path.stat().st_size else None

    def _opened(self, path: Path, name: str) -> tuple[int, int]:
        """Return the file and the offset of the next line."""
        known = self._fds.get(name)
        if known is not None:
            if os.fstat(known[0]).st_nlink:
                return known
            raise StoreError(f"{self.folder.where}: {path} was removed while it was written to", retryable=False)
        if len(self._fds) >= _MOST_OPEN:
            os.close(self._fds.pop(next(iter(self._fds)))[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            lock_exclusively(fd, path)
            end = self._end_of(fd, name)
        except BaseException:
            os.close(fd)
            raise
        self._fds[name] = fd, end
        return fd, end

    def _end_of(self, fd: int, name: str) -> int:
        size = os.fstat(fd).st_size
        ends = [
            place[0] + place[1] + 1
            for key, place, _ in (self.folder.index.coordinates() if size else ())
            if key.rpartition("#")[0] == name and place[0] + place[1] <= size
        ]
        if not ends:  # a foreign file, or a lost index
            if size and os.pread(fd, 1, size - 1) != b"\n":
                size += os.pwrite(fd, b"\n", size)
            return size
        end = max(ends)
        os.ftruncate(fd, end)
        if os.pread(fd, 1, end - 1) != b"\n":
            os.pwrite(fd, b"\n", end - 1)
        return end
