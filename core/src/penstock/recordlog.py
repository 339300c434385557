"""RecordLog: records in one growing file, each with a length and a checksum, so that a torn end is detected.

The file begins with `MAGIC`. An entry is the length of its payload (8 bytes), the CRC-32 of the payload (4 bytes),
both little-endian, and the payload: a record in the format of `penstock.codec`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from penstock.codec import decode, encode_bytes
from penstock.errors import CodecError, StoreError
from penstock.record import Record

MAGIC = b"PSLOG1\r\n"
_HEAD = struct.Struct("<QI")


class RecordLog:
    """Append records to a file. One process and one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """Open or create the file, and remove an entry that a crash left incomplete. Raises OSError, StoreError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = _whole_bytes(self.path)
        file = self.path.open("r+b" if self.path.exists() else "w+b", buffering=0)
        try:
            file.truncate(whole)
            file.seek(whole)
            if not whole:
                _write(file, MAGIC)
        except BaseException:
            file.close()
            if not whole:
                self.path.unlink(missing_ok=True)  # nothing but a part of the magic
            raise
        self._file = file

    def append(self, records: Sequence[Record]) -> int:
        """Append records, all or none; return the size of the file in bytes. Not durable before `sync`.

        Raises:
            CodecError: one of them cannot be written as bytes; none was written.
            OSError: the file cannot grow; the partial entry is removed.
        """
        if self._file is None:
            raise StoreError(f"{self.path}: the log is not open")
        entries = []
        for record in records:
            payload = encode_bytes(record)
            entries += [_HEAD.pack(len(payload), crc32(payload)), payload]
        end = self._file.tell()
        try:
            _write(self._file, b"".join(entries))
        except OSError:
            self._file.truncate(end)
            self._file.seek(end)
            raise
        return self._file.tell()

    def sync(self) -> None:
        """Return once everything appended is on the disk.

        Raises:
            StoreError: the file was removed or replaced meanwhile, so its records are lost. Not retryable.
            OSError: the disk failed.
        """
        if self._file is None:
            return
        os.fsync(self._file.fileno())
        try:
            is_there = os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except FileNotFoundError:
            is_there = False
        if not is_there:
            raise StoreError(f"{self.path}: was removed or replaced while it was written to", retryable=False)

    def close(self, *, sync: bool = True) -> None:
        """Sync, unless `sync` is False, and close. May be called repeatedly."""
        if self._file is not None:
            try:
                if sync:
                    self.sync()
            finally:
                self._file.close()
                self._file = None


def read_log(
    path: Path, start: int = 0, *, on_damage: Callable[[CodecError], None] | None = None
) -> Iterator[tuple[int, Record]]:
    """Yield the records of a log with the offset after each, from an offset that an earlier call yielded.

    An incomplete entry ends the log; a damaged one is a CodecError that names its offset. With
    `on_damage`, that is called with the error, and the entries behind it are read.
    """
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
        if magic != MAGIC:
            raise CodecError(f"{path}: not a record log: it begins with {magic!r}, not {MAGIC!r}")
        size = os.fstat(file.fileno()).st_size
        offset = max(start, len(MAGIC))
        file.seek(offset)
        while offset + _HEAD.size <= size:
            length, checksum = _HEAD.unpack(file.read(_HEAD.size))
            if offset + _HEAD.size + length > size:
                return
            payload = file.read(length)
            entry, offset = offset, offset + _HEAD.size + length
            try:
                if crc32(payload) != checksum:
                    raise CodecError("its checksum is wrong")
                record = decode(payload)
            except CodecError as reason:
                error = CodecError(f"{path}: the entry at byte {entry} is damaged: {reason}")
                if on_damage is None:
                    raise error from reason
                on_damage(error)
            else:
                yield offset, record


def _whole_bytes(path: Path) -> int:
    """Return how many bytes of a log are complete entries; 0 if there are none."""
    if not path.exists() or path.stat().st_size < len(MAGIC):
        return 0
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise StoreError(f"{path}: the file exists and is not a record log: choose another name")
        size = os.fstat(file.fileno()).st_size
        offset = len(MAGIC)
        while offset + _HEAD.size <= size:
            length, checksum = _HEAD.unpack(file.read(_HEAD.size))
            end = offset + _HEAD.size + length
            if end > size or (end == size and crc32(file.read(length)) != checksum):
                break
            file.seek(end)
            offset = end
        return offset


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
