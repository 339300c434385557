"""A consumer's connection to one producer, and the holds that keep its records valid."""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from collections.abc import Callable
from functools import partial

import numpy as np

from penstock.errors import StoreError
from penstock_shm.channel.bundle import MARK
from penstock_shm.channel.control import FREE, HELD, MOST_BLOCKS, Control
from penstock_shm.channel.reference import MARK as ELSEWHERE
from penstock_shm.channel.shared import Shared
from penstock_shm.channel.wake_up import WakeUpEvent
from penstock_shm.segment import MappedSegment, keep_segment
from penstock_shm.wire import (
    BLOCK,
    END,
    FORGET,
    HELLO,
    NEED,
    RETIRE,
    SEGMENT,
    WAKE_UP,
    BlockMessage,
    receive,
    send,
    unpack_block,
    unpack_hello,
    unpack_segment,
)

_open: weakref.WeakSet[Connection] = weakref.WeakSet()
_unsaid: list[tuple[Connection, int]] = []
Outside = Callable[[int, int, int], memoryview]
"""A function that returns memory to which a block refers, by segment, offset and size."""


class BlockHold:
    """An object that keeps a block in use: the producer may reuse the block after this is garbage-collected."""

    __slots__ = ("_connection", "_is_retired", "block")

    def __init__(self, connection: Connection, block: int) -> None:
        self._connection, self.block, self._is_retired = connection, block, False

    @property
    def pid(self) -> int:
        """The id of the process that received the block."""
        return self._connection.pid

    def pass_on(self) -> None:
        """Record, in advance, that the block is passed on to other processes."""
        self._connection.forward()

    def retire(self) -> None:
        """Prevent the producer from reusing the memory of the block."""
        if not self._is_retired:
            self._is_retired = True
            self._connection.retire(self.block)

    def __del__(self) -> None:
        if not self._is_retired:
            self._connection.release(self.block)


class Connection:
    """A connection to one producer. `receive` is called from one thread; blocks may be released from any."""

    def __init__(self, sock: socket.socket, *, latest: bool) -> None:
        """Take over a socket connected to a producer whose hello message has not been received yet."""
        sock.setblocking(False)
        self.socket = sock
        self.title, self.producer_pid = "?", 0
        self.greeted = self.ended = self.dead = False
        self.channels: set[str] = set()
        self.last_channel = ""
        self._latest, self._asked = latest, False
        self.pid = os.getpid()
        self._segments: dict[int, MappedSegment] = {}
        self._control: Control | None = None
        self._wake_up: WakeUpEvent | None = None
        self._leases: set[int] = set()
        self._taken_blocks = self._taken_records = 0
        self._left = False
        _open.add(self)

    @property
    def name(self) -> str:
        """The producer's title and process id, for messages."""
        return f"{self.title} (process {self.producer_pid})"

    def ask(self) -> None:
        """Request the newest records, unless a request is pending."""
        if self._latest and self.greeted and not self._asked and not self.dead:
            with contextlib.suppress(OSError):  # the socket is closed, which receive() reports
                send(self.socket, NEED)
                self._asked = True

    def receive(self) -> tuple[BlockMessage, memoryview, Outside | None] | None:
        """Return the next block, or None if none is waiting. Sets `ended` or `dead` if none will follow.

        Arrays decoded from the block keep it in use. A block that refers to other shared memory is returned with a
        function that finds it. Call `release` for a bundle, whose content is copied.

        Raises:
            StoreError: the producer sent an invalid message, or has another version of the protocol.
        """
        while not self.dead and not self.ended:
            try:
                data, descriptor = receive(self.socket)
            except BlockingIOError:
                return None
            kind = data[:1]
            if kind == BLOCK:
                return self._lease(unpack_block(data), descriptor)
            if kind == SEGMENT:
                number, size = unpack_segment(data)
                if descriptor is not None:
                    self._segments[number] = keep_segment(descriptor, size)
                continue
            if kind == HELLO:
                hello = unpack_hello(data)
                self.title, self.producer_pid = str(hello.get("title", "?")), int(hello.get("pid", 0))
                if descriptor is not None:
                    self._control = Control(descriptor)
                    self._taken_records = self._control.taken_records
                    self.greeted = True
                continue
            if kind == WAKE_UP and descriptor is not None:
                self._wake_up = WakeUpEvent(descriptor)
                continue
            if descriptor is not None:
                os.close(descriptor)
            if kind == END:
                self.ended = True
            elif kind == FORGET:
                self._segments.pop(int.from_bytes(data[1:5], "little"), None)
            elif not data:
                self.dead = True
        return None

    def unfinished(self) -> int:
        """Return how many records the producer began to write that have not been received."""
        return 0 if self._control is None else max(0, self._control.begun_records - self._taken_records)

    def release(self, block: int) -> None:
        """Release a block. The garbage collector calls this from any thread: it only writes to memory."""
        if self.pid != os.getpid() or self._control is None:
            return  # a copy of the hold in a forked process: the parent owns the block
        self._control.set_flag(block, FREE)
        if self._control.wants_free_block and self._wake_up is not None:
            self._wake_up.set()
        self._done(block)

    def _done(self, block: int) -> None:
        self._leases.discard(block)
        if self._left and not self._leases:
            self._close()

    def leave(self) -> None:
        """Stop receiving. Records in use stay valid; the connection closes with the last one."""
        if self.pid != os.getpid():
            return
        self._left = True
        if self._control is not None:
            self._control.leave()
        if self._wake_up is not None:
            self._wake_up.set()
        if not self._leases:
            self._close()

    def abandon(self) -> None:
        """Close the copies in a forked process, so that it does not keep the parent's endpoint alive."""
        self.socket.close()
        if self._wake_up is not None:
            self._wake_up.abandon()

    def _close(self) -> None:
        self.socket.close()
        if self._wake_up is not None:
            self._wake_up.close()

    def forward(self) -> None:
        """Record that blocks of this producer have been passed on to other processes."""
        if self._control is not None:
            self._control.forward()

    def retire(self, block: int) -> None:
        """Release a block and make the producer never reuse its memory. Thread-safe."""
        try:
            send(self.socket, RETIRE + block.to_bytes(4, "little"))
        except BlockingIOError:
            _unsaid.append((self, block))  # the block is held until this process ends
            return
        except OSError:
            pass  # the producer has gone and will not reuse it
        self._done(block)

    def _lease(self, message: BlockMessage, descriptor: int | None) -> tuple[BlockMessage, memoryview, Outside | None]:
        if self._control is None:
            raise StoreError(f"shm channel: producer {self.name} sent a block before its hello message")
        if descriptor is not None:
            self._segments[message.segment] = keep_segment(descriptor, message.segment_size)
        segment = self._segments.get(message.segment)
        if segment is None or message.offset + message.size > segment.size or message.block >= MOST_BLOCKS:
            raise StoreError(f"shm channel: producer {self.name} points outside of its memory: {message}")
        self._control.set_flag(message.block, HELD)
        kind = segment.mapped[message.offset : message.offset + 8]
        outside: Outside | None = None
        if kind == MARK:
            view = memoryview(segment.mapped)[message.offset : message.offset + message.size]
        else:
            self._leases.add(message.block)
            hold = BlockHold(self, message.block)
            if kind == ELSEWHERE:
                view = memoryview(segment.mapped)[message.offset : message.offset + message.size]
                outside = partial(self._outside, hold)
            else:
                view = _shared(segment, message.offset, message.size, hold)
        self._asked = False
        self._taken_blocks += 1
        self._taken_records = message.first + message.count
        self._control.take(self._taken_blocks, self._taken_records)
        if self._control.has_taken_enough:
            self._control.end_wait()
            if self._wake_up is not None:
                self._wake_up.set()
        return message, view, outside

    def _outside(self, hold: BlockHold, number: int, at: int, size: int) -> memoryview:
        """Return memory to which a block refers."""
        segment = self._segments.get(number)
        if segment is None or at + size > segment.size:
            raise StoreError(f"shm channel: producer {self.name} refers to {at}+{size} of segment {number}")
        return _shared(segment, at, size, hold)


def _shared(segment: MappedSegment, at: int, size: int, hold: BlockHold) -> memoryview:
    lease = Shared((size,), np.uint8, buffer=segment.mapped, offset=at)
    lease.segment, lease.at, lease.hold = segment, at, hold
    return memoryview(lease.data)


def _after_fork() -> None:
    for connection in list(_open):
        connection.abandon()


os.register_at_fork(after_in_child=_after_fork)
