"""An array as the bytes of a `.npy` file; its data are not copied if they are contiguous."""

from __future__ import annotations

import io
import math
import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy
from numpy.lib import format as npy

_HEAD_BYTES = 128
_MOST_HEADER_BYTES = 10_000
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
Array = numpy.ndarray[Any, numpy.dtype[Any]]


def npy_buffers(array: Array) -> list[bytes | memoryview]:
    """Return header and data of the file; data is a view of `array`, or of a copy if it is not contiguous.

    Any shape (also () and with zeros) and any dtype without Python objects.

    Raises:
        TypeError: the dtype holds Python objects, or would be read back as another dtype; or the array is masked, and
            the file would lose its mask.
    """
    if type(array) is numpy.ndarray and array.flags.c_contiguous and array.nbytes:  # as most are
        return [_header(array.dtype, array.shape, False), array.reshape(-1).view(numpy.uint8).data]
    if isinstance(array, numpy.ma.MaskedArray):
        raise TypeError("a masked array would lose its mask; store array.filled(value), or a mapping of data and mask")
    array = numpy.asarray(array)
    in_fortran_order = bool(array.flags.f_contiguous and not array.flags.c_contiguous)
    header = _header(array.dtype, array.shape, in_fortran_order)
    if in_fortran_order:
        array = array.T
    if array.nbytes == 0:
        return [header]
    if not array.flags.c_contiguous:
        array = numpy.ascontiguousarray(array)
    # As bytes by way of uint8, since datetime64 and others have no buffer of their own.
    return [header, array.reshape(-1).view(numpy.uint8).data]


@lru_cache(maxsize=256)
def _header(dtype: numpy.dtype[Any], shape: tuple[int, ...], in_fortran_order: bool) -> bytes:
    return npy_header(dtype, shape, in_fortran_order)


def npy_header(dtype: numpy.dtype[Any], shape: tuple[int, ...], in_fortran_order: bool = False) -> bytes:
    """Return the header of a `.npy`; as numpy, it leaves room for a first axis that grows.

    Raises:
        TypeError: the dtype holds Python objects, or would read back as another one.
    """
    if dtype.hasobject:
        raise TypeError(f"dtype {dtype} holds Python objects, which are never written; use a numeric or text dtype")
    described = npy.dtype_to_descr(dtype)
    if npy.descr_to_dtype(described) != dtype:
        raise TypeError(f"dtype {dtype} would read back as {npy.descr_to_dtype(described)}; view it as a plain dtype")
    fields = {"descr": described, "fortran_order": in_fortran_order, "shape": shape}
    for write in (npy.write_array_header_1_0, npy.write_array_header_2_0):
        file = io.BytesIO()
        try:
            write(file, fields)
        except ValueError:  # too long for 1.0, or a field's name is not latin-1
            continue
        return file.getvalue()
    return _header_3_0(fields)


def _header_3_0(fields: dict[str, Any]) -> bytes:
    # numpy writes 3.0 only together with data: https://numpy.org/neps/nep-0001-npy-format.html
    text = repr(fields).encode()
    padding = -(len(npy.magic(3, 0)) + 4 + len(text) + 1) % npy.ARRAY_ALIGN
    text += b" " * padding + b"\n"
    return npy.magic(3, 0) + struct.pack("<I", len(text)) + text


def read_array(path: str | Path) -> tuple[Array, os.stat_result]:
    """Return the array of a file, a new one, and the status of the file.

    Nothing is allocated before the file has as many bytes as its header says.

    Raises:
        ValueError, EOFError: it is not a `.npy`, holds Python objects, or is shorter or longer than its header says.
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | _BINARY)
    with os.fdopen(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        layout = _layout(file, status)
        if layout is None:
            file.seek(0)
            return numpy.load(file, allow_pickle=False), status
        shape, in_fortran_order, dtype, start = layout
        array = numpy.empty(shape[::-1] if in_fortran_order else shape, dtype)
        file.seek(start)
        rest = array.reshape(-1).view(numpy.uint8).data if array.nbytes else memoryview(b"")
        while rest:
            count = file.readinto(rest)
            if not count:
                raise EOFError("it was cut while it was read")
            rest = rest[count:]
    return array.T if in_fortran_order else array, status


def whole_array(path: str | Path) -> os.stat_result:
    """Return the status of a file with one complete array; the array itself is not read. Raises as above."""
    fd = os.open(path, os.O_RDONLY | _BINARY)
    with os.fdopen(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        if _layout(file, status) is None:
            file.seek(0)
            numpy.load(file, allow_pickle=False)
    return status


def _layout(file: io.FileIO, status: os.stat_result) -> tuple[tuple[int, ...], bool, Any, int] | None:
    """Return shape, order, dtype and start of the array in a file; None if only numpy can tell. Raises ValueError."""
    head = file.read(_HEAD_BYTES) or b""
    if head[:6] != npy.MAGIC_PREFIX:
        raise ValueError("it is not a .npy: it begins with other bytes")
    size = struct.calcsize("<H") if head[6:7] == b"\1" else struct.calcsize("<I")
    start = 8 + size + int.from_bytes(head[8 : 8 + size], "little")
    if head[6:7] not in (b"\1", b"\2") or start > _MOST_HEADER_BYTES:
        return None  # numpy reads version 3 only together with the array, and bounds the size of headers
    if start > len(head):
        head += file.read(start - len(head)) or b""
    shape, in_fortran_order, dtype = _parsed(head[:start])
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    expected = start + dtype.itemsize * math.prod(shape)
    if status.st_size != expected:
        raise ValueError(f"it has {status.st_size} bytes, but should have {expected}")
    return shape, in_fortran_order, dtype, start


@lru_cache(maxsize=256)
def _parsed(head: bytes) -> tuple[tuple[int, ...], bool, Any]:
    file = io.BytesIO(head)
    version = npy.read_magic(file)
    return npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
