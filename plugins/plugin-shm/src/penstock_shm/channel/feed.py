"""One producer as its consumer sees it, and the leases by which what was read stays valid."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import weakref

import numpy as np

from penstock.errors import StoreError
from penstock_shm.channel.control import FREE, HELD, MOST_BLOCKS, Control
from penstock_shm.channel.rouser import Rouser
from penstock_shm.segment import map_segment
from penstock_shm.wire import (
    BLOCK,
    END,
    FORGET,
    HELLO,
    NEED,
    ROUSER,
    SEGMENT,
    BlockMessage,
    receive,
    send,
    unpack_block,
    unpack_hello,
    unpack_segment,
)

_open: weakref.WeakSet[Feed] = weakref.WeakSet()


class Lease(np.ndarray[tuple[int], np.dtype[np.uint8]]):
    """A block in use, as (size,) uint8. The producer may use the block again when this has been garbage-collected.

    Whatever is decoded from it refers to it, so that it lives as long as any array of the records in it. It must lie
    right on the mapping, not be a view of an array: numpy skips over such views when it keeps a base alive.
    """

    _feed: Feed | None = None
    _block: int = 0

    def __del__(self) -> None:
        if self._feed is not None:
            self._feed.release(self._block)


class Feed:
    """Receive from one producer. `receive` is called from one thread; leases end in any."""

    def __init__(self, connection: socket.socket, *, latest: bool) -> None:
        """Take over a connection to a producer; its greeting is still to come."""
        connection.setblocking(False)
        self.connection = connection
        self.title, self.producer_pid = "?", 0
        self.greeted = self.ended = self.dead = False
        self.channels: set[str] = set()
        self.last_channel = ""
        self._latest, self._asked = latest, False
        self._pid = os.getpid()
        self._segments: dict[int, mmap.mmap] = {}
        self._control: Control | None = None
        self._rouser: Rouser | None = None
        self._leases: set[int] = set()
        self._taken_blocks = self._taken_records = 0
        self._left = False
        _open.add(self)

    @property
    def name(self) -> str:
        """The producer's title and process, for messages."""
        return f"{self.title} (process {self.producer_pid})"

    def ask(self) -> None:
        """Ask for the newest records, unless that was done and not answered."""
        if self._latest and self.greeted and not self._asked and not self.dead:
            with contextlib.suppress(OSError):  # it is gone, which receive() will see
                send(self.connection, NEED)
                self._asked = True

    def receive(self) -> tuple[BlockMessage, Lease] | None:
        """Return the next block; None when there is none now. Sets `ended` or `dead` when there will be none.

        Raises:
            StoreError: the producer says what cannot be, or is of another version.
        """
        while not self.dead and not self.ended:
            try:
                data, descriptor = receive(self.connection)
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
                said = unpack_hello(data)
                self.title, self.producer_pid = str(said.get("title", "?")), int(said.get("pid", 0))
                if descriptor is not None:
                    self._control = Control(descriptor)
                    self._taken_records = self._control.taken_records
                    self.greeted = True
                continue
            if kind == ROUSER and descriptor is not None:
                self._rouser = Rouser(descriptor)
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
        """Return how many records the producer had begun to write that never came."""
        return 0 if self._control is None else max(0, self._control.begun_records - self._taken_records)

    def release(self, block: int) -> None:
        """Give a block back. Called by the garbage collector, from any thread: it only writes to memory."""
        if self._pid != os.getpid() or self._control is None:
            return  # a copy of the lease in a forked process: the block is not its to give
        self._control.set_flag(block, FREE)
        self._leases.discard(block)
        if self._control.starved and self._rouser is not None:
            self._rouser.ring()
        if self._left and not self._leases:
            self._let_go()

    def leave(self) -> None:
        """Want nothing more. What is held stays valid; the connection closes with the last of it."""
        if self._pid != os.getpid():
            return
        self._left = True
        if self._control is not None:
            self._control.leave()
        if self._rouser is not None:
            self._rouser.ring()
        if not self._leases:
            self._let_go()

    def abandon(self) -> None:
        """Close what a fork has copied, so that this process does not keep the parent's place in the channel."""
        self.connection.close()
        if self._rouser is not None:
            self._rouser.abandon()

    def _let_go(self) -> None:
        self.connection.close()
        if self._rouser is not None:
            self._rouser.close()

    def _lease(self, message: BlockMessage, descriptor: int | None) -> tuple[BlockMessage, Lease]:
        if self._control is None:
            raise StoreError(f"shm channel: producer {self.name} sent a block before its greeting")
        if descriptor is not None:
            self._segments[message.segment] = map_segment(descriptor, message.segment_size, writable=False)
        segment = self._segments.get(message.segment)
        if segment is None or message.offset + message.size > len(segment) or message.block >= MOST_BLOCKS:
            raise StoreError(f"shm channel: producer {self.name} points outside of its memory: {message}")
        lease = Lease((message.size,), np.uint8, buffer=segment, offset=message.offset)
        lease._feed, lease._block = self, message.block
        self._leases.add(message.block)
        self._control.set_flag(message.block, HELD)
        self._asked = False
        self._taken_blocks += 1
        self._taken_records = message.first + message.count
        self._control.take(self._taken_blocks, self._taken_records)
        if self._control.sated:
            self._control.feed()
            if self._rouser is not None:
                self._rouser.ring()
        return message, lease


def _after_fork() -> None:
    for feed in list(_open):
        feed.abandon()


os.register_at_fork(after_in_child=_after_fork)
