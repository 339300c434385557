"""The producer's state of a consumer: blocks sent to it, read by it, and held by it."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from penstock_shm.channel.control import FREE, HELD, SENT, SIZE, Control
from penstock_shm.channel.pool import Block, Segment
from penstock_shm.channel.shared import SharedSegment
from penstock_shm.channel.wake_up import WakeUpEvent
from penstock_shm.segment import new_segment
from penstock_shm.wire import END, FORGET, WAKE_UP, pack_block, pack_extra, pack_hello, pack_segment, send

RING_BLOCKS = 64
"""Limit of a lossless consumer's unread blocks: below the number of messages that its socket can hold."""

RING_BYTES = 4 << 20
"""Limit of unread bytes beyond the first block, so that waiting records are still in the processor's cache. A producer
copies the next block before it waits, in parallel with its consumer."""


@attrs.define(eq=False)
class Given:
    """A block of records that is handed to consumers.

    Attributes:
        size: Bytes used in the block.
        first: Number of records written before it.
        channels: The channel of each record.
        elsewhere: Other segments to which it refers, by their numbers at this producer.
        weight: Bytes used in total.
    """

    block: Block
    size: int
    first: int
    channels: Sequence[str]
    elsewhere: Mapping[int, SharedSegment] = attrs.field(factory=dict)
    weight: int = 0


@attrs.define(eq=False)
class Consumer:
    """The producer's state of one consumer; used under the producer's lock.

    Attributes:
        connection: The socket connected to it.
        latest: Whether it receives only the newest record of each channel, on request.
        pid: Its process id.
        title: The name of its program.
        control: The shared page; None until the hello message is sent.
        wants: Whether a `latest` consumer has asked for its next records.
        lost: Records that it missed since the last message, by channel.
        gone: Whether its socket is closed: the process is dead, or has released all blocks.
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
        """Its title and process id, for messages."""
        return f"{self.title} (process {self.pid})"

    @property
    def listens(self) -> bool:
        """Whether it receives new records."""
        return not self.gone and self.control is not None and not self.control.leaving

    def greet(self, about: dict[str, Any], wake_up: WakeUpEvent, *, begun: int, handed: int) -> None:
        """Send a hello message with a new shared page.

        `begun` and `handed` are the numbers of records that the producer has begun to write and has published so far.

        Raises:
            OSError: the consumer is gone.
            StoreError: no memory.
        """
        descriptor = new_segment("penstock-control", SIZE)
        try:
            control = Control(os.dup(descriptor))
            control.begin(begun)
            control.take(0, handed)
            send(self.connection, WAKE_UP, wake_up.descriptor)
            send(self.connection, pack_hello(**about), descriptor)
            self.control = control
        finally:
            os.close(descriptor)

    def announce(self, segment: Segment) -> None:
        """Send a segment ahead of its blocks. OSError if the socket is full or closed."""
        send(self.connection, pack_segment(segment.number, segment.size), segment.descriptor)
        self._known.add(segment.number)

    def unread(self) -> int:
        """Return how many blocks are waiting in its socket."""
        assert self.control is not None
        unread = self._given_blocks - self.control.taken_blocks
        if unread < 0:
            unread = 0
        while len(self._unread) > unread:
            self._unread_bytes -= self._unread.popleft()
        return unread

    def has_room(self) -> bool:
        """Whether another block may be sent: the number of unread ones is below the limit."""
        unread = self.unread()
        return unread < 1 or (unread < RING_BLOCKS and self._unread_bytes < RING_BYTES)

    def request_wake(self) -> None:
        """Request a wake-up: at half of its limit if that is reached, otherwise whenever it releases a block."""
        if self.control is not None and self.listens:
            full = not self.latest and not self.has_room()
            self.control.request_wake(max(1, self._given_blocks - self.unread() // 2) if full else 0)

    def held_when_it_died(self, blocks: Sequence[Block]) -> list[Block]:
        """Return those of these blocks that other processes may read because this consumer passed them on."""
        if self.control is None or not self.control.forwards:
            return []
        return [block for block in blocks if self.control.flag(block.number) == HELD]

    def holds(self, block: Block) -> bool:
        """Whether it holds this block, read or unread."""
        control = self.control
        if self.gone or control is None:
            return False
        flag = control.flag(block.number)
        return flag != FREE and (flag == HELD or not control.leaving)

    def give(self, given: Given, indices: Sequence[int] = ()) -> None:
        """Send the location of a block. BlockingIOError if its socket is full, ConnectionError if it is gone."""
        assert self.control is not None
        block = given.block
        segment = block.segment
        message = pack_block(
            block.number, segment.number, segment.size, block.offset, given.size, given.first, len(given.channels)
        )
        if indices or self.lost:
            message += pack_extra(indices, self.lost)
        for number, other in given.elsewhere.items():
            if number not in self._known:
                send(self.connection, pack_segment(number, other.size), other.descriptor)
                self._known.add(number)
        self.control.set_flag(block.number, SENT)
        try:
            send(self.connection, message, None if segment.number in self._known else segment.descriptor)
        except OSError:
            self.control.set_flag(block.number, FREE)
            raise
        self._known.add(segment.number)
        if self.lost:
            self.lost = {}
        self._given_blocks += 1
        weight = given.weight or given.size
        self._unread.append(weight)
        self._unread_bytes += weight

    def offer(self, given: Given) -> None:
        """Keep the newest record of each channel until it is requested; replaced ones are counted as missed."""
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
        """Send the kept records. BlockingIOError if its socket is full, ConnectionError if it is gone."""
        while self._pending:
            given, _ = next(iter(self._pending.values()))
            mine = {c: i for c, (g, i) in self._pending.items() if g is given}
            self.give(given, sorted(mine.values()))
            for channel in mine:
                del self._pending[channel]
                given.block.pins -= 1
            self.wants = False

    def forget(self, segment: int) -> None:
        """Notify it that a segment has been released."""
        if segment in self._known and not self.gone:
            self._known.discard(segment)
            send(self.connection, FORGET + segment.to_bytes(4, "little"))

    def end(self) -> None:
        """Notify it that this producer has ended."""
        if self.latest:
            self.answer()
        send(self.connection, END)

    def drop(self) -> None:
        """Close the socket and release the records kept for it."""
        self.gone = True
        self.connection.close()
        for given, _ in self._pending.values():
            given.block.pins -= 1
        self._pending.clear()
