"""The file behind a shared array: a header page that describes it, then the elements."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import math
import mmap
import os
import secrets
import struct
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from penstock.errors import StoreError
from penstock_shm.arrays.array_errors import ArrayExistsError, ArrayNotFoundError, ArrayTypeError
from penstock_shm.directory import UNFINISHED, VARIABLE, locked_directory, path_of, tidy, usable
from penstock_shm.segment import UNTRACKED

MAGIC = b"PNSTKARR"
VERSION = 1
STATE_AT, STATE_SIZE = 4064, 16
HEADER_SIZE = 4096
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_LEAD = struct.Struct("<8sII")


@attrs.frozen
class ArrayFile:
    """An open array: the elements, (…) of any type, and the descriptor whose lock marks it as in use.

    `state` is the lock's part of the header.
    """

    path: Path
    descriptor: int
    elements: npt.NDArray[np.generic]
    state: memoryview


def create(name: str, prototype: npt.NDArray[np.generic], *, replace: bool) -> None:
    """Write a new array file atomically.

    Raises:
        ArrayTypeError: the elements refer to Python objects, or the header cannot describe the dtype.
        ArrayExistsError: the array exists and is in use, and `replace` is False.
        StoreError: /dev/shm is full; the message says how much is needed and how much is free.
    """
    header = _header(name, prototype)
    with usable(f"shared array {name!r}"):
        _create(path_of("array", name), name, header, prototype, replace=replace)


def _create(path: Path, name: str, header: bytes, prototype: npt.NDArray[np.generic], *, replace: bool) -> None:
    data = np.ascontiguousarray(prototype)
    temporary = path.parent / f"{UNFINISHED}{secrets.token_hex(8)}"
    with locked_directory(path.parent):  # so that `clean` never sees the file without the lock that marks it as in use
        descriptor = os.open(temporary, _NEW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    try:
        size = HEADER_SIZE + data.nbytes
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            there = os.statvfs(path.parent)
            room = there.f_bavail * there.f_frsize
            raise StoreError(
                f"shared array {name!r}: needs {size} bytes in {path.parent}, which has {room} ({error.strerror}); "
                f"enlarge it (mount -o remount,size=…; docker --shm-size) or set {VARIABLE}"
            ) from error
        with mmap.mmap(descriptor, size, **UNTRACKED) as mapped:
            mapped[: len(header)] = header
            if data.nbytes:
                mapped[HEADER_SIZE:] = data.reshape(-1).view(np.uint8).data if data.ndim else data.tobytes()
        with locked_directory(path.parent):
            if not replace and _in_use(path):
                raise ArrayExistsError(
                    f"shared array {name!r}: already exists and is in use; connect to it with "
                    f"SharedMemoryArray({name!r}).connect(), or replace it with exist_ok=True"
                )
            os.rename(temporary, path)
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _in_use(path: Path) -> bool:
    """Return whether a process is connected to the array at this path: each holds a shared lock on the file."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def remove(name: str, descriptor: int | None) -> None:
    """Remove the file of this name; with a descriptor, only if it refers to that file. May be called repeatedly."""
    path = path_of("array", name)
    with contextlib.suppress(FileNotFoundError), locked_directory(path.parent, make=False):
        with contextlib.suppress(FileNotFoundError):
            if descriptor is None or os.path.samestat(path.stat(), os.fstat(descriptor)):
                path.unlink()
        tidy(path.parent)


def attach(name: str) -> ArrayFile:
    """Open an array file.

    Raises:
        ArrayNotFoundError: the array does not exist, or this version cannot read its file.
    """
    path = path_of("array", name)
    descriptor = _open(name, path)
    try:
        dtype, shape = _parse(name, os.pread(descriptor, HEADER_SIZE, 0))
        size = HEADER_SIZE + math.prod(shape) * dtype.itemsize
        if os.fstat(descriptor).st_size < size:
            raise ArrayNotFoundError(f"shared array {name!r}: the file is shorter than its header says; destroy it")
        mapped = mmap.mmap(descriptor, size, **UNTRACKED)
        elements = np.ndarray(shape, dtype, mapped, HEADER_SIZE)
        return ArrayFile(path, descriptor, elements, memoryview(mapped)[STATE_AT : STATE_AT + STATE_SIZE])
    except BaseException:
        os.close(descriptor)
        raise


def _open(name: str, path: Path) -> int:
    """Open the file with the lock that marks it as in use for `clean`."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise ArrayNotFoundError(
                f"shared array {name!r}: does not exist; create it first with SharedMemoryArray.create_array"
            ) from error
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # removed or replaced just before it was locked


def _header(name: str, prototype: npt.NDArray[np.generic]) -> bytes:
    dtype = prototype.dtype
    if dtype.hasobject:
        raise ArrayTypeError(
            f"shared array {name!r}: type {dtype} refers to Python objects, which cannot be shared; use numbers, "
            "fixed-length text ('U20', 'S20') or a structured dtype of these"
        )
    text = repr((np.lib.format.dtype_to_descr(dtype), prototype.shape)).encode()
    if _LEAD.size + len(text) > STATE_AT or _dtype(text)[0] != dtype:
        raise ArrayTypeError(
            f"shared array {name!r}: type {dtype} cannot be described in the header; use a simpler one"
        )
    return _LEAD.pack(MAGIC, VERSION, len(text)) + text


def _parse(name: str, page: bytes) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    try:
        magic, version, length = _LEAD.unpack_from(page)
        if magic != MAGIC or version != VERSION:
            raise ValueError(f"magic {magic!r}, version {version}")
        dtype, shape = _dtype(page[_LEAD.size : _LEAD.size + length])
        if dtype.hasobject or any(n < 0 for n in shape):
            raise ValueError(f"type {dtype}, shape {shape}")
    except (ValueError, SyntaxError, TypeError, struct.error) as error:
        raise ArrayNotFoundError(
            f"shared array {name!r}: its file has no header of version {VERSION}: {error}"
        ) from error
    return dtype, shape


def _dtype(text: bytes) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    description, shape = ast.literal_eval(text.decode())
    return np.lib.format.descr_to_dtype(description), tuple(int(n) for n in shape)
