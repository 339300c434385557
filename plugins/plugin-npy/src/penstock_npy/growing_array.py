"""A `.npy` that grows along axis 0, and that numpy can open at any time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy
from numpy.lib import format as npy

from penstock.errors import CannotGetObjectError
from penstock_npy.npy_format import npy_header

_MOST_BUFFERS = 512
_AT_ONCE_BYTES = 2 << 20


@attrs.define(eq=False)
class GrowingArray:
    """Append rows to a `.npy`. The rows are written before the header counts them.

    Attributes:
        path: The file.
        dtype: Of the rows.
        shape: Of one row.
        count: The number of rows that the header counts.
    """

    path: Path
    dtype: numpy.dtype[Any]
    shape: tuple[int, ...]
    count: int = attrs.field(default=0, init=False)
    fd: int = attrs.field(default=-1, init=False)
    start: int = attrs.field(default=0, init=False)
    row_bytes: int = attrs.field(default=0, init=False)
    _around: tuple[bytes, bytes, int] | None = attrs.field(default=None, init=False)

    def make(self) -> None:
        """Make the file. Raises FileExistsError, OSError, TypeError for a dtype that a file cannot contain."""
        header = npy_header(self.dtype, (0, *self.shape))
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.pwrite(self.fd, header, 0)
        except OSError:
            self.close()
            self.path.unlink()
            raise
        self._measure(header)

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> GrowingArray:
        """Open an existing file.

        Raises:
            CannotGetObjectError: it is not a growing array.
            OSError: it cannot be opened.
        """
        fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            with os.fdopen(os.dup(fd), "rb") as file:
                version = npy.read_magic(file)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, is_fortran, dtype = read(file)
                start = file.tell()
            if is_fortran or not shape or dtype.hasobject:
                raise ValueError("it is in Fortran order, 0-d, or holds objects")
        except (ValueError, EOFError) as error:
            os.close(fd)
            raise CannotGetObjectError(f"{path}: is not an array that grows: {error}") from error
        array = cls(path, dtype, tuple(shape[1:]))
        array.fd, array.count = fd, shape[0]
        array._measure(b"")
        array.start = start
        return array

    def _measure(self, header: bytes) -> None:
        self.start = len(header)
        self.row_bytes = self.dtype.itemsize * int(numpy.prod(self.shape, dtype=numpy.int64))

    def write(self, buffers: Sequence[Any], rows: int) -> None:
        """Write rows after the last one, as arrays of bytes; `say` makes them count.

        Raises OSError; then the file is unchanged.
        """
        offset = self.start + self.count * self.row_bytes
        try:
            # As many at once as fit the caches; more took twice as long or longer.
            each = max(1, min(_MOST_BUFFERS, _AT_ONCE_BYTES // max(1, self.row_bytes)))
            for first in range(0, len(buffers), each):
                some = buffers[first : first + each]
                offset = _write_at(self.fd, some, offset, sum([buffer.nbytes for buffer in some]))
        except OSError:
            self.cut()
            raise
        if offset != self.start + (self.count + rows) * self.row_bytes:
            raise ValueError(f"{self.path}: {rows} rows have not {rows * self.row_bytes} bytes")

    def say(self, count: int) -> None:
        """Write the number of rows into the header. Raises OSError."""
        header = self._header(count)
        if len(header) != self.start:
            raise ValueError(f"{self.path}: the header of {count} rows does not fit")
        os.pwrite(self.fd, header, 0)
        self.count = count

    def _header(self, count: int) -> bytes:
        """Return the header for this number of rows: `npy_header`, which takes as long as a small row is written."""
        if self._around is None:
            header = npy_header(self.dtype, (0, *self.shape))
            before, _, after = header.rpartition(b"(0,")
            self._around = before + b"(", b"," + after.rstrip(), len(header)
        start, end, size = self._around
        return (start + str(count).encode() + end).ljust(size - 1) + b"\n"

    def cut(self) -> None:
        """Cut the file off after the last row that the header counts."""
        os.ftruncate(self.fd, self.start + self.count * self.row_bytes)

    def whole_rows(self) -> int:
        """Return how many rows the file has by its size, or by its header for rows of 0 bytes."""
        if not self.row_bytes:
            return self.count
        return max(0, os.fstat(self.fd).st_size - self.start) // self.row_bytes

    def row(self, number: int) -> numpy.ndarray[Any, Any]:
        """Return a row as a new array. Raises CannotGetObjectError if the file is too short."""
        content = bytearray(os.pread(self.fd, self.row_bytes, self.start + number * self.row_bytes))
        if len(content) != self.row_bytes:
            raise CannotGetObjectError(f"{self.path}: ends before row {number}")
        if not self.row_bytes:
            return numpy.empty(self.shape, self.dtype)
        return numpy.frombuffer(content, self.dtype).reshape(self.shape)

    def rows(self, start: int, stop: int) -> numpy.ndarray[Any, Any]:
        """Return rows as a new array, as many as there are."""
        content = os.pread(self.fd, (stop - start) * self.row_bytes, self.start + start * self.row_bytes)
        whole = len(content) // self.row_bytes if self.row_bytes else 0
        return numpy.frombuffer(content[: whole * self.row_bytes], self.dtype).reshape(whole, *self.shape)

    def close(self) -> None:
        """Close the file, any number of times."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def _write_at(fd: int, buffers: Sequence[Any], offset: int, expected: int) -> int:
    written = os.pwritev(fd, buffers, offset)
    end = offset + expected
    while written < expected:  # rarely: nearly full, or interrupted
        done, left = written, []
        for buffer in buffers:
            view = memoryview(buffer.reshape(-1).view(numpy.uint8))
            if done < len(view):
                left.append(view[done:])
            done = max(0, done - len(view))
        written += os.pwritev(fd, left, offset + written)
    return end
