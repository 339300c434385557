"""An `.npz` of many small arrays, written in one go and read in constant time an entry.

It is a zip file (APPNOTE 6.3.10, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT) that `numpy.load` reads,
one uncompressed member `….npy` an entry. All names have the same length and all entries of the central directory the
same form (with the zip64 field for the offset), so that the place of the n-th can be computed.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import attrs
from numpy.lib import format as npy

from penstock.errors import CannotGetObjectError

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_ZIP64 = struct.Struct("<2HQ")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")
_VERSION = 45
_IN_MEMORY_BYTES = 16 << 20
_AT_ONCE = 1024
_NO_DATE = 0x21  # 1980-01-01, the first that a zip file knows
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF


class NpzWriter:
    """Write members one after another, in a memory that does not grow with their number."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offset = 0
        self._central: Any = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - see close
        self.count = 0

    def add(self, stem: str, header: bytes, content: bytes) -> None:
        """Add an array: the header of its `.npy`, and its bytes."""
        name = f"{stem}.npy".encode("ascii")
        checksum = crc32(content, crc32(header))
        size = len(header) + len(content)
        local = _LOCAL.pack(b"PK\3\4", _VERSION, 0, 0, 0, _NO_DATE, checksum, size, size, len(name), 0)
        self._file.write(b"".join((local, name, header, content)))
        self._central.write(
            _CENTRAL.pack(
                b"PK\1\2", _VERSION, _VERSION, 0, 0, 0, _NO_DATE, checksum, size, size,
                len(name), _ZIP64.size, 0, 0, 0, 0o600 << 16, _FULL32,
            )
            + name
            + _ZIP64.pack(1, 8, self._offset)
        )  # fmt: skip
        self.count += 1
        self._offset += len(local) + len(name) + size

    def finish(self) -> None:
        """Write the central directory."""
        count, size = self.count, self._central.tell()
        self._central.seek(0)
        shutil.copyfileobj(self._central, self._file, 1 << 20)
        end = self._offset + size
        self._file.write(_END64.pack(b"PK\6\6", 44, _VERSION, _VERSION, 0, 0, count, count, size, self._offset))
        self._file.write(_LOCATOR.pack(b"PK\6\7", 0, end, 1))
        short = min(count, _FULL16)
        self._file.write(_END.pack(b"PK\5\6", 0, 0, short, short, min(size, _FULL32), _FULL32, 0))

    def close(self) -> None:
        """Discard the central directory."""
        self._central.close()


@lru_cache(maxsize=4096)
def bytes_header(size: int) -> bytes:
    """Return the header of a `.npy` of `size` bytes, (size,) uint8."""
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
    return file.getvalue()


@attrs.define(eq=False)
class NpzFile:
    """Read members by their number.

    Attributes:
        path: The file.
        count: How many members it has.
    """

    path: Path
    count: int = attrs.field(default=0, init=False)
    _fd: int = attrs.field(default=-1, init=False)
    _start: int = attrs.field(default=0, init=False)
    _stride: int = attrs.field(default=0, init=False)
    _name_size: int = attrs.field(default=0, init=False)

    def open(self) -> None:
        """Find the central directory.

        Raises:
            CannotGetObjectError: it is not an archive of this form.
            OSError: it cannot be read.
        """
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._find()
        except (struct.error, ValueError, OverflowError) as error:
            self.close()
            raise CannotGetObjectError(f"{self.path}: is not an archive of compress_npy_logs: {error}") from error

    def _find(self) -> None:
        size = os.fstat(self._fd).st_size
        at = size - _END.size - _LOCATOR.size
        if at < 0:
            raise ValueError("it is too short")
        magic, _, end, _ = _LOCATOR.unpack(os.pread(self._fd, _LOCATOR.size, at))
        if magic != b"PK\6\7" or end > at:
            raise ValueError("its end is missing or of another form")
        magic, _, _, _, _, _, _, count, central, self._start = _END64.unpack(os.pread(self._fd, _END64.size, end))
        if magic != b"PK\6\6" or self._start + central != end:
            raise ValueError("its central directory is not where it should be")
        if not count:
            return
        self._stride = central // count
        self._name_size = self._stride - _CENTRAL.size - _ZIP64.size
        if self._stride * count != central or self._name_size <= 0:
            raise ValueError("its entries are not all of one size")
        self.count = count

    def places(self, start: int, stop: int) -> Iterator[tuple[str, int, int, int]]:
        """Yield name, checksum, offset and size of members. Raises CannotGetObjectError."""
        for first in range(start, stop, _AT_ONCE):
            last = min(first + _AT_ONCE, stop)
            rows = os.pread(self._fd, (last - first) * self._stride, self._start + first * self._stride)
            for number in range(first, last):
                yield self._place(number, rows, (number - first) * self._stride)

    def _place(self, number: int, rows: bytes, at: int) -> tuple[str, int, int, int]:
        fields = _CENTRAL.unpack_from(rows, at)
        name = rows[at + _CENTRAL.size : at + _CENTRAL.size + self._name_size]
        _, _, offset = _ZIP64.unpack_from(rows, at + _CENTRAL.size + self._name_size)
        if fields[0] != b"PK\1\2" or fields[10] != self._name_size:
            raise CannotGetObjectError(f"{self.path}: the directory is damaged at entry {number}")
        start = offset + _LOCAL.size + self._name_size
        if start + fields[8] > self._start:
            raise CannotGetObjectError(f"{self.path}: entry {number} is outside of the file")
        return name.decode("ascii", "replace"), fields[7], start, fields[8]

    def content(self, place: tuple[str, int, int, int]) -> bytes:
        """Return the bytes of the array of a member.

        Raises:
            CannotGetObjectError: they are damaged, or the array is not (n,) uint8.
        """
        name, checksum, start, size = place
        whole = os.pread(self._fd, size, start)
        if len(whole) != size or crc32(whole) != checksum:
            raise CannotGetObjectError(f"{self.path}: entry {name} is damaged")
        return array_content(whole, f"{self.path}: entry {name}")

    def close(self) -> None:
        """Close the file, any number of times."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self.count = 0


def array_content(whole: bytes, where: str) -> bytes:
    """Return the bytes of the array in a `.npy`, from the bytes of the file. Raises CannotGetObjectError."""
    head = 10 + int.from_bytes(whole[8:10], "little")
    if whole[:8] != b"\x93NUMPY\x01\x00" or head > len(whole) or bytes_header(len(whole) - head) != whole[:head]:
        raise CannotGetObjectError(f"{where}: is damaged, or not an array of bytes")
    return whole[head:]
