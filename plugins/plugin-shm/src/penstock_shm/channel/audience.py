"""A consumer as its producer sees it: what it was given, what it has taken, what it holds."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

import attrs

from penstock_shm.channel.control import FREE, HELD, SENT, SIZE, Control
from penstock_shm.channel.pool import Block, Segment
from penstock_shm.channel.rouser import Rouser
from penstock_shm.segment import new_segment
from penstock_shm.wire import END, FORGET, ROUSER, BlockMessage, pack_block, pack_hello, pack_segment, send

RING_BLOCKS = 64
"""So many blocks may a lossless consumer have unread: fewer than a socket holds messages, so that none is refused."""

RING_BYTES = 4 << 20
"""And a second one only while they are smaller together than this: what waits should still be in the cache. A producer
has copied the next one before it waits, and so works beside its consumer."""


@attrs.define(eq=False)
class Given:
    """A block with the records in it, as handed to consumers: `channels` says where each came from."""

    block: Block
    size: int
    first: int
    channels: Sequence[str]


@attrs.define(eq=False)
class Consumer:
    """One consumer's end of the bookkeeping; used under the producer's lock.

    Attributes:
        connection: The socket to it.
        latest: It wants the newest record of each channel, and only when it asks.
        pid: Its process.
        title: What it calls itself.
        control: The shared page; None until it was greeted.
        wants: A `latest` consumer waits for its next records.
        lost: What it was not given since the last message, by channel.
        gone: Its socket is closed: it is dead, or has let go of everything.
    """

    connection: socket.socket
    latest: bool = False
    pid: int = 0
    title: str = "?"
    control: Control | None = None
    wants: bool = False
    lost: dict[str, int] = attrs.field(factory=dict)
    gone: bool = False
    _given_blocks: int = 0
    _unread: deque[int] = attrs.field(factory=deque)
    _unread_bytes: int = 0
    _known: set[int] = attrs.field(factory=set)
    _pending: dict[str, tuple[Given, int]] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        """Its title and process, for messages."""
        return f"{self.title} (process {self.pid})"

    @property
    def listens(self) -> bool:
        """Whether it is to be given what is written."""
        return not self.gone and self.control is not None and not self.control.leaving

    def greet(self, about: dict[str, Any], rouser: Rouser, *, begun: int, handed: int) -> None:
        """Make the shared page and send it with a greeting. OSError if the consumer is gone, StoreError if memory is.

        `begun` and `handed` are how many records the producer had begun to write, and handed over, before.
        """
        descriptor = new_segment("penstock-control", SIZE)
        try:
            control = Control(os.dup(descriptor))
            control.begin(begun)
            control.take(0, handed)
            send(self.connection, ROUSER, rouser.descriptor)
            send(self.connection, pack_hello(**about), descriptor)
            self.control = control
        finally:
            os.close(descriptor)

    def announce(self, segment: Segment) -> None:
        """Send a segment ahead of the blocks that will lie in it. OSError if its socket is full, or it is gone."""
        send(self.connection, pack_segment(segment.number, segment.size), segment.descriptor)
        self._known.add(segment.number)

    def unread(self) -> int:
        """Return how many blocks wait in its socket."""
        assert self.control is not None
        unread = self._given_blocks - self.control.taken_blocks
        while len(self._unread) > max(unread, 0):
            self._unread_bytes -= self._unread.popleft()
        return unread

    def has_room(self) -> bool:
        """Whether another block may be sent without it having too much to read."""
        unread = self.unread()
        return unread < 1 or (unread < RING_BLOCKS and self._unread_bytes < RING_BYTES)

    def starve(self) -> None:
        """Ask to be woken: when half of its ring is free again if that is full, else whenever it lets go of a block."""
        if self.control is not None and self.listens:
            full = not self.latest and not self.has_room()
            self.control.starve(max(1, self._given_blocks - self.unread() // 2) if full else 0)

    def holds(self, block: Block) -> bool:
        """Whether it has this block, read or unread."""
        if self.gone or self.control is None:
            return False
        flag = self.control.flag(block.number)
        return flag == HELD or (flag == SENT and not self.control.leaving)

    def give(self, given: Given, indices: Sequence[int] = ()) -> None:
        """Send word of a block. BlockingIOError if its socket is full, ConnectionError if it is gone."""
        assert self.control is not None
        segment = given.block.segment
        message = BlockMessage(
            given.block.number,
            segment.number,
            segment.size,
            given.block.offset,
            given.size,
            given.first,
            len(given.channels),
            indices,
            self.lost,
        )
        self.control.set_flag(given.block.number, SENT)
        try:
            known = segment.number in self._known
            send(self.connection, pack_block(message), None if known else segment.descriptor)
        except OSError:
            self.control.set_flag(given.block.number, FREE)
            raise
        self._known.add(segment.number)
        self.lost = {}
        self._given_blocks += 1
        self._unread.append(given.size)
        self._unread_bytes += given.size

    def offer(self, given: Given) -> None:
        """Keep the newest record of each channel for when it asks; those they replace are lost to it."""
        newest: dict[str, int] = {}
        for index, channel in enumerate(given.channels):
            if channel in newest:
                self.lost[channel] = self.lost.get(channel, 0) + 1
            newest[channel] = index
        for channel, index in newest.items():
            if old := self._pending.get(channel):
                old[0].block.pins -= 1
                self.lost[channel] = self.lost.get(channel, 0) + 1
            given.block.pins += 1
            self._pending[channel] = (given, index)

    def answer(self) -> None:
        """Send what was kept for it. BlockingIOError if its socket is full, ConnectionError if it is gone."""
        while self._pending:
            given, _ = next(iter(self._pending.values()))
            mine = {c: i for c, (g, i) in self._pending.items() if g is given}
            self.give(given, sorted(mine.values()))
            for channel in mine:
                del self._pending[channel]
                given.block.pins -= 1
            self.wants = False

    def forget(self, segment: int) -> None:
        """Tell it that a segment has been given up."""
        if segment in self._known and not self.gone:
            self._known.discard(segment)
            send(self.connection, FORGET + segment.to_bytes(4, "little"))

    def end(self) -> None:
        """Tell it that this producer has ended and nothing more will come."""
        if self.latest:
            self.answer()
        send(self.connection, END)

    def drop(self) -> None:
        """Close the socket and let go of what was kept for it."""
        self.gone = True
        self.connection.close()
        for given, _ in self._pending.values():
            given.block.pins -= 1
        self._pending.clear()
