"""A segment of a log: consecutive entries in one file, and their offsets in a second one.

All numbers are little-endian. `<name>.log` begins with `MAGIC`; each entry is

    0   8  XXH3-64 of everything behind these 8 bytes, padding left out
    8   8  time, unsigned
    16  8  number, signed
    24  4  size of the payload in bytes
    28  4  source id
    32     the payload, then zeros up to a multiple of 8

`<name>.idx` has, for each entry, its offset (8 bytes), its number (8) and its time (8). It is written after the entry,
and rebuilt from the entries if it is lost or short.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy
import xxhash

from penstock.errors import CannotGetObjectError, StoreError
from penstock_npy.pair_lock import lock_exclusively

MAGIC = b"PSNPLOG1"
HEAD = struct.Struct("<QQqII")
_COVERED = struct.Struct("<QqII")
_PLACES = numpy.dtype([("offset", "<u8"), ("number", "<i8"), ("time", "<u8")])
_PADDING = (b"", *(bytes(8 - rest) for rest in range(1, 8)))
_MOST_BUFFERS = 512
MOST_BYTES = (1 << 32) - 1
"""Size of the largest payload."""

Places = numpy.ndarray[Any, numpy.dtype[Any]]


def entry_buffers(time: int, number: int, payload: bytes | memoryview, source: int = 0) -> tuple[bytes, Any, bytes]:
    """Return an entry as head, payload and padding."""
    size = len(payload)
    covered = _COVERED.pack(time, number, size, source)
    digest = xxhash.xxh3_64(covered)
    digest.update(payload)
    return digest.intdigest().to_bytes(8, "little") + covered, payload, _PADDING[size & 7]


def entry_size(payload_size: int) -> int:
    """Return how many bytes an entry takes."""
    return HEAD.size + payload_size + (-payload_size & 7)


def check_entry(head: bytes | memoryview, payload: bytes | memoryview) -> bool:
    """Return whether an entry is complete."""
    digest = xxhash.xxh3_64(head[8 : HEAD.size])
    digest.update(payload)
    return digest.intdigest() == int.from_bytes(head[:8], "little")


@attrs.define
class SegmentWriter:
    """Append entries to a segment. One process and one thread at a time.

    Attributes:
        path: The `.log` file.
        size: Its bytes.
        count: The number of entries.
    """

    path: Path
    size: int = attrs.field(default=0, init=False)
    count: int = attrs.field(default=0, init=False)
    _fd: int = attrs.field(default=-1, init=False)
    _index: int = attrs.field(default=-1, init=False)

    def open(self) -> int:
        """Open or make the files; return the number of bytes of an unfinished entry that were cut off.

        Raises:
            StoreError: there is a file of this name that is not a segment, or another process writes to it.
            OSError: they cannot be opened or made.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o666)
        try:
            lock_exclusively(self._fd, self.path)
            self._index = os.open(index_path(self.path), flags, 0o666)
            return self._mend()
        except BaseException:
            self.close()
            raise

    def _mend(self) -> int:
        there = os.fstat(self._fd).st_size
        if there < len(MAGIC):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, MAGIC, 0)
            os.ftruncate(self._index, 0)
            self.size = len(MAGIC)
            return there
        if os.pread(self._fd, len(MAGIC), 0) != MAGIC:
            raise StoreError(f"{self.path}: the file exists and is not a log: choose another path", retryable=False)
        places = read_places(self.path)
        good = len(places)
        end = len(MAGIC)
        if good:
            last = _entry_end(self._fd, int(places[-1]["offset"]), there)
            if last is None:
                good = 0  # the index is ahead of the file, or of another one: trust only the entries
            else:
                end = last
        found: list[tuple[int, int, int]] = []
        while True:
            after = _entry_end(self._fd, end, there)
            if after is None:
                break
            _, time, number, _, _ = HEAD.unpack(os.pread(self._fd, HEAD.size, end))
            found.append((end, number, time))
            end = after
        os.ftruncate(self._fd, end)
        os.ftruncate(self._index, good * _PLACES.itemsize)
        if found:
            os.pwrite(self._index, numpy.array(found, _PLACES).tobytes(), good * _PLACES.itemsize)
        self.size, self.count = end, good + len(found)
        return there - end

    def append(self, buffers: Sequence[Any], places: Sequence[tuple[int, int, int]]) -> None:
        """Append entries: all their buffers, and for each its offset from `size`, its number and its time.

        Raises:
            OSError: there is no room; none of them was appended.
        """
        start = self.size
        rows = numpy.array(places, _PLACES)
        rows["offset"] += numpy.uint64(start)
        try:
            end = _write_at(self._fd, buffers, start)
            _write_at(self._index, [rows.tobytes()], self.count * _PLACES.itemsize)
        except OSError:
            os.ftruncate(self._fd, start)
            os.ftruncate(self._index, self.count * _PLACES.itemsize)
            raise
        self.size = end
        self.count += len(places)

    def sync(self) -> None:
        """Make all entries durable. Raises StoreError if the file was removed, or OSError."""
        os.fsync(self._fd)
        os.fsync(self._index)
        if not self.is_there:
            raise StoreError(f"{self.path}: was removed while it was written to", retryable=False)

    @property
    def is_there(self) -> bool:
        """Whether the file has not been removed."""
        return os.fstat(self._fd).st_nlink > 0

    def close(self) -> None:
        """Close the files, any number of times."""
        for fd in (self._fd, self._index):
            if fd >= 0:
                os.close(fd)
        self._fd = self._index = -1


def index_path(path: Path) -> Path:
    """Return the file with the places of a segment's entries."""
    return path.with_suffix(".idx")


def read_places(path: Path, start: int = 0) -> Places:
    """Return offset, number and time of the entries of a segment from a number on; also while it is being written.

    A (n,) structured array, read-only.
    """
    try:
        with index_path(path).open("rb") as file:
            file.seek(start * _PLACES.itemsize)
            content = file.read()
    except FileNotFoundError:
        content = b""
    return numpy.frombuffer(content[: len(content) // _PLACES.itemsize * _PLACES.itemsize], _PLACES)


def read_entry(path: Path, offset: int) -> tuple[int, int, int, bytes]:
    """Return time, number, source id and payload of the entry at an offset.

    Raises:
        CannotGetObjectError: it is damaged.
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        head = file.read(HEAD.size)
        if len(head) == HEAD.size:
            _, time, number, size, source = HEAD.unpack(head)
            if offset + HEAD.size + size <= os.fstat(file.fileno()).st_size:
                payload = file.read(size)
                if len(payload) == size and check_entry(head, payload):
                    return time, number, source, payload
    raise CannotGetObjectError(f"{path}: the entry at byte {offset} is damaged")


def _entry_end(fd: int, offset: int, size: int) -> int | None:
    """Return the end of the entry at an offset, or None if it is not complete."""
    if offset + HEAD.size > size:
        return None
    head = os.pread(fd, HEAD.size, offset)
    _, _, _, length, _ = HEAD.unpack(head)
    end = offset + entry_size(length)
    if end > size or not check_entry(head, os.pread(fd, length, offset + HEAD.size)):
        return None
    return end


def _write_at(fd: int, buffers: Sequence[Any], offset: int) -> int:
    """Write all buffers at an offset; return their end."""
    for start in range(0, len(buffers), _MOST_BUFFERS):
        rest = [memoryview(buffer) for buffer in buffers[start : start + _MOST_BUFFERS] if len(buffer)]
        while rest:
            written = os.pwritev(fd, rest, offset)
            offset += written
            while rest and written >= rest[0].nbytes:
                written -= rest.pop(0).nbytes
            if rest and written:
                rest[0] = rest[0][written:]
    return offset
