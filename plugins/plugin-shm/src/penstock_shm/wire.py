"""The protocol between the two sides of a channel: short messages over a socket, which may carry a segment.

Frames never travel here, only their locations. A message is handed to the kernel whole; it outlives its sender.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from penstock.errors import StoreError

PROTOCOL = 2
"""Version of this protocol; sides of different versions refuse each other with an error that names both."""

HELLO, WAKE_UP, SEGMENT, BLOCK, END, FORGET, NEED, RETIRE = b"H", b"R", b"S", b"B", b"E", b"F", b"N", b"X"
LONGEST = 32_768

_BLOCK = struct.Struct("<cIIQQQQI")
_SEGMENT = struct.Struct("<cIQ")
_EXTRA = msgspec.msgpack.Decoder(tuple[tuple[int, ...], dict[str, int]])
_SEND = int(socket.MSG_DONTWAIT) | int(socket.MSG_NOSIGNAL)
_RECEIVE = int(socket.MSG_DONTWAIT) | int(socket.MSG_CMSG_CLOEXEC)
_TRUNCATED = int(socket.MSG_CTRUNC)
_SPACE = socket.CMSG_SPACE(array.array("i").itemsize)


@attrs.define(eq=False)
class BlockMessage:
    """The location of a block of records.

    Attributes:
        block: Number of the block, used to release it.
        segment: Number of its segment.
        segment_size: Size of that segment in bytes.
        offset: Where the block starts in it, in bytes.
        size: Bytes used in it.
        first: Number of records that the producer wrote before it.
        count: Number of records in it.
        indices: The records meant; empty means all.
        lost: Records that this consumer missed since the previous message, by channel.
    """

    block: int
    segment: int
    segment_size: int
    offset: int
    size: int
    first: int
    count: int
    indices: Sequence[int] = ()
    lost: Mapping[str, int] = attrs.field(factory=dict)


def pack_block(block: int, segment: int, segment_size: int, offset: int, size: int, first: int, count: int) -> bytes:
    """Return the bytes of a block message; the arguments are the attributes of `BlockMessage`."""
    return _BLOCK.pack(BLOCK, block, segment, segment_size, offset, size, first, count)


def pack_extra(indices: Sequence[int], lost: Mapping[str, int]) -> bytes:
    """Return the bytes that follow a block message, if only some records are meant, or some were missed."""
    return msgspec.msgpack.encode((tuple(indices), dict(lost)))


def unpack_block(data: bytes) -> BlockMessage:
    """Return the block message of these bytes; StoreError if they are not one."""
    try:
        _, block, segment, segment_size, offset, size, first, count = _BLOCK.unpack_from(data)
        extra = data[_BLOCK.size :]
        indices, lost = _EXTRA.decode(extra) if extra else ((), {})
    except (struct.error, msgspec.DecodeError) as error:
        raise StoreError(f"shared channel: a message of {len(data)} bytes cannot be read: {error}") from error
    return BlockMessage(block, segment, segment_size, offset, size, first, count, indices, lost)


def pack_segment(number: int, size: int) -> bytes:
    """Return the bytes of a message that accompanies a segment for later blocks."""
    return _SEGMENT.pack(SEGMENT, number, size)


def unpack_segment(data: bytes) -> tuple[int, int]:
    """Return number and size in bytes of the segment that accompanies this message; StoreError if it is malformed."""
    try:
        _, number, size = _SEGMENT.unpack(data)
    except struct.error as error:
        raise StoreError(f"shared channel: a message of {len(data)} bytes cannot be read: {error}") from error
    return number, size


def pack_hello(**fields: Any) -> bytes:
    """Return a hello message: the protocol's version and the fields that describe this side."""
    return HELLO + msgspec.msgpack.encode({"protocol": PROTOCOL, **fields})


def unpack_hello(data: bytes) -> dict[str, Any]:
    """Return the fields of a hello message; StoreError if it is malformed or of another version."""
    try:
        fields = msgspec.msgpack.decode(data[1:], type=dict[str, Any]) if data[:1] == HELLO else {}
    except msgspec.DecodeError:
        fields = {}
    if fields.get("protocol") != PROTOCOL:
        raise StoreError(
            f"shared channel: the other side speaks version {fields.get('protocol')}, this one {PROTOCOL}; "
            "install the same penstock-shm on both"
        )
    return fields


def new_socket() -> socket.socket:
    """Return a socket on which a message arrives whole or not at all."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def send(connection: socket.socket, data: bytes, descriptor: int | None = None) -> None:
    """Send one message, with a descriptor if given. BlockingIOError: the socket is full; ConnectionError: closed."""
    if descriptor is None:
        connection.send(data, _SEND)
        return
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
    connection.sendmsg([data], [rights], _SEND)


def receive(connection: socket.socket) -> tuple[bytes, int | None]:
    """Return the next message and its descriptor; `b""` when the other side is gone.

    Raises:
        BlockingIOError: no message is waiting.
        StoreError: this process has no descriptor left for the one received.
    """
    for attempt in range(2):
        try:
            data, extras, flags, _ = connection.recvmsg(LONGEST, _SPACE, _RECEIVE)
            break
        except ConnectionError:
            # The other side closed with unread messages. The kernel reports that once, before it delivers the messages
            # which that side had sent: receive again.
            if attempt:
                return b"", None
    if flags & _TRUNCATED:
        raise StoreError(
            "shared channel: memory was received, but this process has too many open files for it (ulimit -n)"
        )
    found: list[int] = []
    for level, kind, content in extras:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received = array.array("i")
            received.frombytes(content[: len(content) - len(content) % received.itemsize])
            found.extend(received)
    for descriptor in found[1:]:
        os.close(descriptor)
    return data, found[0] if found else None
