"""A consumer's connection to one producer, and the leases that keep its records valid."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import weakref

import numpy as np

from penstock.errors import StoreError
from penstock_shm.channel.bundle import MARK
from penstock_shm.channel.control import FREE, HELD, MOST_BLOCKS, Control
from penstock_shm.channel.wake_up import WakeUpEvent
from penstock_shm.segment import map_segment
from penstock_shm.wire import (
    BLOCK,
    END,
    FORGET,
    HELLO,
    NEED,
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


class Lease(np.ndarray[tuple[int], np.dtype[np.uint8]]):
    """A block in use, as (size,) uint8. The producer may reuse the block once this has been garbage-collected.

    Arrays decoded from it refer to it, so that it lives as long as any of them. Its buffer must be the mapping itself,
    not a view of an array: numpy skips such views when it keeps a base alive.
    """

    _connection: Connection | None = None
    _block: int = 0

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.release(self._block)


class Connection:
    """Receive from one producer. `receive` is called from one thread; leases end in any."""

    def __init__(self, sock: socket.socket, *, latest: bool) -> None:
        """Take over a socket to a producer, whose hello message has not been received yet."""
        sock.setblocking(False)
        self.socket = sock
        self.title, self.producer_pid = "?", 0
        self.greeted = self.ended = self.dead = False
        self.channels: set[str] = set()
        self.last_channel = ""
        self._latest, self._asked = latest, False
        self._pid = os.getpid()
        self._segments: dict[int, mmap.mmap] = {}
        self._control: Control | None = None
        self._wake_up: WakeUpEvent | None = None
        self._leases: set[int] = set()
        self._taken_blocks = self._taken_records = 0
        self._left = False
        _open.add(self)

    @property
    def name(self) -> str:
        """The producer's title and process, for messages."""
        return f"{self.title} (process {self.producer_pid})"

    def ask(self) -> None:
        """Ask for the newest records, unless a request is pending."""
        if self._latest and self.greeted and not self._asked and not self.dead:
            with contextlib.suppress(OSError):  # it is closed, which receive() reports
                send(self.socket, NEED)
                self._asked = True

    def receive(self) -> tuple[BlockMessage, memoryview] | None:
        """Return the next block; None if none is waiting. Sets `ended` or `dead` when none will follow.

        What is decoded from it keeps it from being reused; call `release` for a bundle, from which all is copied.

        Raises:
            StoreError: the producer sent an impossible message, or is of another version.
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
                    self._segments[number] = map_segment(descriptor, size, writable=False)
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
        """Release a block. Called by the garbage collector, from any thread: it only writes to memory."""
        if self._pid != os.getpid() or self._control is None:
            return  # a copy of the lease in a forked process: the parent owns the block
        self._control.set_flag(block, FREE)
        self._leases.discard(block)
        if self._control.wants_free_block and self._wake_up is not None:
            self._wake_up.set()
        if self._left and not self._leases:
            self._close()

    def leave(self) -> None:
        """Stop receiving. Records in use stay valid; the connection closes with the last of them."""
        if self._pid != os.getpid():
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

    def _lease(self, message: BlockMessage, descriptor: int | None) -> tuple[BlockMessage, memoryview]:
        if self._control is None:
            raise StoreError(f"shm channel: producer {self.name} sent a block before its hello message")
        if descriptor is not None:
            self._segments[message.segment] = map_segment(descriptor, message.segment_size, writable=False)
        segment = self._segments.get(message.segment)
        if segment is None or message.offset + message.size > len(segment) or message.block >= MOST_BLOCKS:
            raise StoreError(f"shm channel: producer {self.name} points outside of its memory: {message}")
        self._control.set_flag(message.block, HELD)
        if segment[message.offset : message.offset + 8] == MARK:
            view = memoryview(segment)[message.offset : message.offset + message.size]
        else:
            lease = Lease((message.size,), np.uint8, buffer=segment, offset=message.offset)
            lease._connection, lease._block = self, message.block
            self._leases.add(message.block)
            view = memoryview(lease.data)
        self._asked = False
        self._taken_blocks += 1
        self._taken_records = message.first + message.count
        self._control.take(self._taken_blocks, self._taken_records)
        if self._control.has_taken_enough:
            self._control.end_wait()
            if self._wake_up is not None:
                self._wake_up.set()
        return message, view


def _after_fork() -> None:
    for connection in list(_open):
        connection.abandon()


os.register_at_fork(after_in_child=_after_fork)
