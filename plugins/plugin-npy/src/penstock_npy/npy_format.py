"""An array as the bytes of a `.npy` file, its data not copied where it lies in one piece."""

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

Array = numpy.ndarray[Any, numpy.dtype[Any]]


def npy_buffers(array: Array) -> list[bytes | memoryview]:
    """Return header and data of the file; data is a view of `array`, or of a copy if it does not lie in one piece.

    Any shape (also () and with zeros) and any dtype without Python objects.

    Raises:
        TypeError: the dtype holds Python objects, or cannot be told from the file again (it would read back as
            another dtype); or the array is masked, and the file would lose its mask.
    """
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


def whole_array(path: Path) -> os.stat_result:
    """Return the status of a file that holds one array, all of it; the array itself is not read.

    Raises:
        ValueError, EOFError: it is no `.npy`, holds Python objects, or is shorter or longer than its header says.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        version = npy.read_magic(file)
        if version == (3, 0):  # numpy reads this one only together with the array
            file.seek(0)
            numpy.load(file, allow_pickle=False)
            return status
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        expected = file.tell() + dtype.itemsize * math.prod(shape)
        if status.st_size != expected:
            raise ValueError(f"it has {status.st_size} bytes, but should have {expected}")
        return status
