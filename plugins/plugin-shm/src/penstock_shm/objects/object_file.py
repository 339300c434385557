"""The file of an object: a header with its name, then the encoded record."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import attrs
import msgspec

from penstock.codec import decode, encode
from penstock.codec.encoders import Mark
from penstock.errors import CannotGetObjectError, CodecError, StoreError
from penstock.record import Record
from penstock_shm.segment import UNTRACKED

MAGIC = b"PNSTKOBJ"
VERSION = 2
_LEAD = struct.Struct("<8sIIQQ")
_ALIGNED = 64
_SMALL_BYTES = 65_536


@attrs.frozen
class ObjectInfo:
    """The properties of an object beside its record.

    Attributes:
        id: Unique in its store; ids sort in the order in which objects were put.
        name: Its name, or "".
        queue: The queue that holds it, or "".
        time_ns: Time of `put`, in UNIX nanoseconds.
        size_bytes: Its size in bytes.
        spilled: Whether it is on disk because memory was full.
    """

    id: str
    name: str
    queue: str
    time_ns: int
    size_bytes: int
    spilled: bool


@attrs.frozen
class Content:
    """The content of a file: a record, and the information to restore the object from it.

    Attributes:
        record: The record, or one that contains the object as data.
        is_record: Whether a record was put.
        marks: Paths of the encoded parts of its data, with their encoders.
    """

    record: Record
    is_record: bool
    marks: list[Mark]


_Meta = tuple[str, str, int, bool, list[Mark]]


def to_pieces(content: Content, *, name: str, queue: str, time_ns: int) -> list[bytes | memoryview]:
    """Return the file's content as buffers. Raises CodecError if the record cannot be encoded."""
    record = content.record
    meta = msgspec.msgpack.encode((name, queue, time_ns, content.is_record, content.marks))
    buffers = [memoryview(b).cast("B") for b in encode(record) if len(b)]
    start = -(-(_LEAD.size + len(meta)) // _ALIGNED) * _ALIGNED
    body = sum(b.nbytes for b in buffers)
    head = _LEAD.pack(MAGIC, VERSION, len(meta), start, body) + meta
    return [head + bytes(start - len(head)), *buffers]


def write_file(path: Path, pieces: Sequence[bytes | memoryview]) -> None:
    """Write a new file. Raises OSError (mostly ENOSPC), and leaves no file then."""
    size = sum(len(p) for p in pieces)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        with open(descriptor, "wb", closefd=False) as file:
            file.writelines(pieces)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def read_content(path: Path, what: str) -> Content:
    """Return the content of a file; arrays are read-only views of it, and stay valid after it is deleted.

    Raises:
        FileNotFoundError: there is no such file.
        CannotGetObjectError: the file is damaged.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size < _LEAD.size:
            raise CannotGetObjectError(f"{what}: its file {path} has {size} bytes, fewer than a header; delete it")
        buffer: bytes | mmap.mmap
        if size <= _SMALL_BYTES:  # a mapping needs a descriptor, of which a process may have only 1024
            buffer = os.pread(descriptor, size, 0)
        else:
            buffer = mmap.mmap(descriptor, size, prot=mmap.PROT_READ, **UNTRACKED)
    finally:
        os.close(descriptor)
    view = memoryview(buffer)
    try:
        magic, version, length, start, body = _LEAD.unpack_from(view)
        if magic != MAGIC or version != VERSION or start + body > size:
            raise StoreError(f"magic {magic!r}, version {version}, {start}+{body} of {size} bytes")
        _, _, _, is_record, marks = msgspec.msgpack.decode(view[_LEAD.size : _LEAD.size + length], type=_Meta)
        return Content(decode(view[start : start + body]), is_record, marks)
    except (StoreError, CodecError, msgspec.DecodeError) as error:
        raise CannotGetObjectError(f"{what}: its file {path} is damaged: {error}; delete it") from error


def read_info(path: Path, key: str) -> ObjectInfo:
    """Return the properties of the object in a file. Raises FileNotFoundError or CannotGetObjectError."""
    with open(path, "rb") as file:
        lead = file.read(_LEAD.size)
        try:
            magic, version, length, _, _ = _LEAD.unpack(lead)
            if magic != MAGIC or version != VERSION:
                raise ValueError(f"magic {magic!r}, version {version}")
            name, queue, time_ns, _, _ = msgspec.msgpack.decode(file.read(length), type=_Meta)
        except (struct.error, ValueError, msgspec.DecodeError) as error:
            raise CannotGetObjectError(f"shm object {key!r}: its file {path} is damaged: {error}; delete it") from error
        return ObjectInfo(key, name, queue, time_ns, os.fstat(file.fileno()).st_size, path.is_symlink())
