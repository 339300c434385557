"""The frame around a record: magic, version, a msgpack header, then the raw buffers, each aligned to 64 bytes.

Version 1, all numbers little-endian:

    0   4  magic 9d 50 53 4b
    4   1  version, 1
    5   3  zero
    8   4  size of the header in bytes
    12  4  zero
    16  8  size of everything in bytes
    24     the header: msgpack of [sizes, channel, seq, time_ns, discontinuity, coords, metadata, data, parent]
    ...    each buffer of `sizes`, in this order, at the next multiple of 64 from the start; zeros between

`sizes` are those of the buffers; since they follow one another, they cannot overlap or lie outside. `parent` is nil or
[channel, seq, time_ns, discontinuity, coords, metadata, data]. How values become msgpack: penstock.codec.values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from penstock.codec.subclasses import shown
from penstock.codec.values import Packer, Unpacker, array_codec, is_flat, is_plain
from penstock.coords import DataCoordinates
from penstock.errors import CodecError, RecordFieldError
from penstock.fields import exact, is_exact
from penstock.read_only import ReadOnlyDict
from penstock.record import Record

Buffer = bytes | memoryview

_MAGIC = b"\x9dPSK"
_VERSION = 1
_ALIGN = 64
_PREFIX = struct.Struct("<4sB3xI4xQ")
_pack_prefix = _PREFIX.pack
_PADDING = bytes(_ALIGN)
_PADDINGS = tuple(_PADDING[: -end % _ALIGN] for end in range(_ALIGN))
_NOWHERE = Record(None).coords  # the very object that records without coordinates share
_DICTS = (dict, ReadOnlyDict)
_encode_msgpack = msgspec.msgpack.Encoder().encode


class _Parent(msgspec.Struct, array_like=True):
    channel: str
    seq: int
    time_ns: int
    discontinuity: bool
    coords: dict[str, Any]
    metadata: dict[str, Any]
    data: Any


class _Header(msgspec.Struct, array_like=True):
    sizes: list[int]
    channel: str
    seq: int
    time_ns: int
    discontinuity: bool
    coords: dict[str, Any]
    metadata: dict[str, Any]
    data: Any
    parent: _Parent | None


_decode_header = msgspec.msgpack.Decoder(_Header).decode


def encode(record: Record, *, join_below: int = 0) -> list[Buffer]:
    """Return a record as buffers which, one after another, are its bytes; one buffer, if these are fewer than a number.

    The first is the header; those of arrays (and of `bytes` that are its data) are views, valid as long as nothing
    changes the array; an array that is not contiguous is copied once. The parent is encoded too, without its own
    parent. Some types are read back as others: `bytearray` and `memoryview` as bytes; an enum as its value; a subclass
    of a built-in as the built-in, of `ndarray` as ndarray; a time zone as its offset from UTC; a path of another system
    as a pure path. A subclass that holds more than the built-in, so that the two are not equal (a time stamp with
    nanoseconds), is refused; so are keys, and members of a set, that would be equal when read.

    Raises:
        CodecError: something in it cannot be written; the message begins with its path, `$.metadata.camera.handle`.
    """
    if type(record.data).__name__ == "ndarray" and (found := _array_head(record)) is not None:
        head, padding, size = found
        if size < join_below:
            return [b"".join((head, padding, record.data))]
        return [head, padding, record.data.data.cast("B")]
    parts, size = _frame(record)
    return parts if size >= join_below else [b"".join(parts)]


def _frame(record: Record) -> tuple[list[Buffer], int]:
    """Return the buffers of `encode`, and their total size in bytes."""
    try:
        try:
            header, buffers = _pack(record, Packer())
        except (OverflowError, UnicodeEncodeError):  # a large int or a lone surrogate: rare, so checked only now
            header, buffers = _pack(record, Packer(careful=True))
    except CodecError:
        raise
    except Exception as error:  # the attributes of users' objects may raise anything
        raise CodecError(f"$: cannot be written as bytes: {type(error).__name__}: {shown(error)}") from error
    header_size = len(header)
    if header_size >= 1 << 32:
        raise CodecError(f"$: the header would have {header_size} bytes; hand large data over as arrays or bytes")
    end = _PREFIX.size + header_size
    if not buffers:
        return [_PREFIX.pack(_MAGIC, _VERSION, header_size, end) + header], end
    parts: list[Buffer] = [b""]
    for buffer in buffers:
        padding = -end % _ALIGN
        parts.append(_PADDING[:padding])
        parts.append(buffer)
        end += padding + len(buffer)
    parts[0] = _PREFIX.pack(_MAGIC, _VERSION, header_size, end) + header
    return parts, end


def _array_head(record: Record) -> tuple[bytes, bytes, int] | None:
    """Return the bytes before the memory of an array, in two parts, and the total size in bytes.

    This is three times as fast as `_frame`. None for records that need the general path.
    """
    data, coords = record.data, record.coords
    metadata: Any = record.metadata
    if record.parent is not None or not is_exact(record) or not data.flags.c_contiguous:
        return None
    layout = array_codec().layout(type(data), data.dtype, data.shape)
    if layout is None or (metadata and not (type(metadata) in _DICTS and is_plain(metadata))):
        return None
    sizes, described, size = layout
    where = {} if coords is _NOWHERE else dict(coords.items())
    try:
        header = _encode_msgpack(
            (sizes, record.channel, record.seq, record.time_ns, record.discontinuity, where, metadata, described, None)
        )
    except Exception:  # the general path names the problem, or can encode the record
        return None
    header_size = len(header)
    end = _PREFIX.size + header_size
    padding = _PADDINGS[end % _ALIGN]
    end += len(padding) + size
    return _pack_prefix(_MAGIC, _VERSION, header_size, end) + header, padding, end


def encode_bytes(record: Record) -> bytes:
    """Return a record as bytes; see `encode`. Its arrays are copied once."""
    return b"".join(encode(record))


def encoded_size(record: Record) -> int:
    """Return how many bytes `encode_into` will write for this record."""
    return sum(map(len, encode(record)))


def encode_into(record: Record, buffer: Any) -> int:
    """Write a record to the start of a writable buffer and return how many bytes it took; see `encode`.

    Raises:
        CodecError: the record cannot be written, or is larger than the buffer; nothing has been written then.
    """
    parts = encode(record)
    size = sum(map(len, parts))
    target = _bytes_of(buffer)
    if target.readonly:
        raise CodecError(f"the buffer ({type(buffer).__name__}) is read-only; pass a writable one")
    if size > len(target):
        raise CodecError(f"the record takes {size} bytes, the buffer has {len(target)}; pass a larger one")
    start = 0
    for part in parts:
        end = start + len(part)
        target[start:end] = part
        start = end
    return size


def decode(buffer: Any) -> Record:
    """Return the record at the start of a buffer; bytes behind it are ignored.

    Arrays are views of the buffer, and read-only if it is; they keep it alive. `bytes` are copied. For any input,
    memory and time are proportional to its size; only numeric keys chosen so that their hashes collide take longer, as
    in any dict, so limit the size of untrusted input.

    Raises:
        CodecError: these bytes are not a record, or are one of a later version.
    """
    view = _bytes_of(buffer)
    if len(view) < _PREFIX.size:
        raise CodecError(f"{len(view)} bytes are not a record: its frame alone has {_PREFIX.size}")
    header_size, size = _checked_prefix(view)
    end = _PREFIX.size + header_size
    if not end <= size <= len(view):
        raise CodecError(f"the record claims {size} bytes with {header_size} in its header; there are {len(view)}")

    def split(sizes: list[int]) -> list[memoryview | None]:
        return _split(view, sizes, end, size) if sizes or size != end else []

    return _decoded(view[_PREFIX.size : end], split)


def decode_parts(head: Any, buffers: Sequence[memoryview]) -> Record:
    """Return the record of which `encode` returned these: the first buffer, and those that hold more than padding.

    So the buffers may lie anywhere, apart from each other. Arrays are views of them, as with `decode`.

    Raises:
        CodecError: these bytes are not a record, or the buffers are not those of this one.
    """
    view = _bytes_of(head)
    if len(view) < _PREFIX.size or _checked_prefix(view)[0] != len(view) - _PREFIX.size:
        raise CodecError(f"{len(view)} bytes are not the head of a record")

    def given(sizes: list[int]) -> list[memoryview | None]:
        if sizes != [len(buffer) for buffer in buffers]:
            raise CodecError(f"the header of the record names buffers of {str(sizes)[:80]} bytes; others were given")
        return list(buffers)

    return _decoded(view[_PREFIX.size :], given)


def _checked_prefix(view: memoryview) -> tuple[int, int]:
    """Return the sizes of the header and of everything. Raises CodecError if the prefix is not that of a record."""
    magic, version, header_size, size = _PREFIX.unpack_from(view)
    if magic != _MAGIC:
        raise CodecError(f"these bytes are not a record: they begin with {magic!r}, not {_MAGIC!r}")
    if version != _VERSION:
        raise CodecError(f"record of format {version}: this penstock reads format {_VERSION}; use a later one")
    return header_size, size


def _decoded(packed: memoryview, buffers_of: Callable[[list[int]], list[memoryview | None]]) -> Record:
    try:
        header = _decode_header(packed)
        unpacker = Unpacker(buffers_of(header.sizes))
        parent = None if header.parent is None else _record(unpacker, header.parent, None)
        record = _record(unpacker, header, parent)
    except CodecError:
        raise
    except Exception as error:  # msgspec, numpy, struct and the types of values raise many errors for wrong bytes
        raise CodecError(f"the header of the record is wrong: {error}") from error
    if unpacker.unused:
        raise CodecError(f"the header of the record is wrong: {unpacker.unused} of its buffers are unused")
    return record


def _pack(record: Record, packer: Packer) -> tuple[bytes, list[bytes | memoryview]]:
    fields = _fields(packer, record, "$")
    parent = None if record.parent is None else _fields(packer, record.parent, "$.parent")
    buffers = packer.buffers
    return _encode_msgpack((list(map(len, buffers)), *fields, parent)), buffers


def _fields(packer: Packer, record: Record, path: str) -> tuple[Any, ...]:
    if not is_exact(record):
        record = _exact(record, path)
    coords: Any = dict(record.coords.items()) if record.coords is not _NOWHERE else {}
    metadata: Any = record.metadata
    data: Any = record.data
    if packer.careful:
        _check_fields(record, path)
        coords = packer.pack_metadata(coords, f"{path}.coords")
    if packer.careful or not (type(metadata) in _DICTS and is_plain(metadata)):
        metadata = packer.pack_metadata(metadata, f"{path}.metadata")
    if data is not None:
        data = packer.pack_data(data, f"{path}.data")
    return (record.channel, record.seq, record.time_ns, record.discontinuity, coords, metadata, data)


def _exact(record: Record, path: str) -> Record:
    try:
        return exact(record)
    except RecordFieldError as error:
        raise CodecError(f"{path}: {error}") from error


def _check_fields(record: Record, path: str) -> None:
    for name in ("seq", "time_ns"):
        if not -(1 << 63) <= getattr(record, name) < 1 << 63:
            raise CodecError(f"{path}.{name}: {getattr(record, name)} does not fit into 64 bits")
    try:
        record.channel.encode()
    except UnicodeEncodeError as error:
        raise CodecError(f"{path}.channel: {record.channel!r} is not valid text: {error.reason}") from None


def _record(unpacker: Unpacker, header: _Header | _Parent, parent: Record | None) -> Record:
    data, coords, metadata = header.data, header.coords, header.metadata
    return Record(
        data if data is None else unpacker.unpack(data, 0),
        channel=header.channel,
        seq=header.seq,
        time_ns=header.time_ns,
        coords=DataCoordinates(coords if is_flat(coords) else unpacker.unpack_dict(coords, 0)) if coords else _NOWHERE,
        metadata=metadata if is_flat(metadata) else unpacker.unpack_dict(metadata, 0),
        parent=parent,
        discontinuity=header.discontinuity,
    )


def _split(view: memoryview, sizes: list[int], end: int, total: int) -> list[memoryview | None]:
    buffers: list[memoryview | None] = []
    for size in sizes:
        start = end + -end % _ALIGN
        end = start + size
        if size < 0 or end > total:
            raise CodecError(f"the header of the record is wrong: buffer {len(buffers)} of {size} bytes lies outside")
        buffers.append(view[start:end])
    if end != total:
        raise CodecError(f"the header of the record is wrong: its buffers end at {end}, the record at {total}")
    return buffers


def _bytes_of(buffer: Any) -> memoryview:
    if type(buffer) is bytes:
        return memoryview(buffer)
    try:
        view = memoryview(buffer)
        return view if view.format == "B" and view.ndim == 1 and view.contiguous else view.cast("B")
    except TypeError as error:
        raise CodecError(f"{type(buffer).__name__} has no contiguous bytes: {error}") from None
