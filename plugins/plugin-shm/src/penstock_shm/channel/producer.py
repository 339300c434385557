"""The writing side of a channel: accepts consumers, sends them blocks, and waits for them with a timeout."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from penstock.errors import StoreError
from penstock_shm.channel.audience import Consumer, Given
from penstock_shm.channel.complaints import no_memory, too_few
from penstock_shm.channel.control import FREE
from penstock_shm.channel.elsewhere import OtherSegments, reserved, retire_elsewhere
from penstock_shm.channel.pool import READY_BYTES, Block, Pool, new_memory
from penstock_shm.channel.reference import put_numbers
from penstock_shm.channel.shared import Place, Shared
from penstock_shm.channel.title import title
from penstock_shm.channel.waiting import TICK_S, Waiting
from penstock_shm.channel.wake_up import WakeUpEvent
from penstock_shm.directory import usable
from penstock_shm.rendezvous import EXCLUSIVE, LATEST, PRODUCER, Endpoint, join
from penstock_shm.wire import HELLO, NEED, RETIRE, receive, unpack_hello

_LONGEST_TICK_S = 0.5
_open: weakref.WeakSet[Producer] = weakref.WeakSet()


class Producer:
    """A producer: its memory, its consumers, and the thread that listens to them."""

    def __init__(self, channel_name: str, *, exclusive: bool, most_bytes: int | None) -> None:
        """Join the channel, send hello messages to its consumers, and start the listening thread."""
        self.label = f"shm channel {channel_name!r}"
        self.pid = os.getpid()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._about: dict[str, Any] = {"pid": self.pid, "title": title()}
        self._consumers: list[Consumer] = []
        self._pool = Pool(self.label, most_bytes, self._forget)
        self._pool.wish_bytes = READY_BYTES if most_bytes is None or most_bytes >= READY_BYTES else 0
        self._others = OtherSegments(self._pool.new_number)
        self._begun = 0
        self._handed = 0
        self._closing = False
        self._ticks = False
        self._endpoint: Endpoint = join(channel_name, EXCLUSIVE if exclusive else PRODUCER)
        with usable(self.label), contextlib.ExitStack() as undo:
            undo.callback(self._endpoint.give_up)
            self._selector = selectors.DefaultSelector()
            undo.callback(self._selector.close)
            wake_up = WakeUpEvent()
            undo.callback(wake_up.close)
            self._waker, self._woken = socket.socketpair()
            self._wake_up = wake_up
            self._waiting = Waiting(self.label, self._lock, wake_up, self._consumers)
            undo.pop_all()
        self._selector.register(self._endpoint.listener, selectors.EVENT_READ, None)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        for role, pid, connection in self._endpoint.met:
            self._add(Consumer(connection, latest=role == LATEST, pid=pid))
        self._make_ready()  # before the first record, which may follow immediately
        _open.add(self)
        self._thread = threading.Thread(target=self._listen, name=f"penstock {self.label}", daemon=True)
        self._thread.start()

    # -- writing -------------------------------------------------------------------------------------------------

    def begin(self, count: int) -> None:
        """Announce that `count` more records are being written, so that consumers can count losses by a death."""
        with self._lock:
            self._begun += count
            for consumer in self._consumers:
                if consumer.control is not None:
                    consumer.control.begin(self._begun)

    def wait_for_room(self, consumers: int, timeout_s: float | None) -> bool:
        """Wait until `consumers` are attached and each lossless one has room; return False if none is attached."""
        with self._lock:
            listening = self._listening()
            if len(listening) < consumers:
                for _ in self._waiting.until(timeout_s, lambda: too_few(self.label, len(self._listening()), consumers)):
                    if len(listening := self._listening()) >= consumers:
                        break
            while any(not c.latest and not c.has_room() for c in listening):
                for _ in self._waiting.until(None, lambda: ""):
                    listening = self._listening()
                    if all(c.latest or c.has_room() for c in listening):
                        break
            return bool(listening)

    def take(self, size: int, hold_timeout_s: float) -> Block:
        """Return a free block, pinned until `hand_over` or `give_back`.

        Raises:
            StoreError: consumers held all memory for `hold_timeout_s`; the message names the one that holds most.
        """
        with self._lock:
            block = self._pool.take(size, self._is_free)
            if block is None:
                for _ in self._waiting.until(
                    hold_timeout_s,
                    lambda: no_memory(self.label, size, self._pool.in_use(), self._consumers),
                    busy=self._has_readers,
                ):
                    block = self._pool.take(size, self._is_free)
                    if block is not None:
                        break
            assert block is not None  # _until only ends by an exception
            block.pins += 1
            if self._pool.wish_bytes:
                self._wake()
            return block

    def give_back(self, block: Block) -> None:
        """Free a block that was not published."""
        with self._lock:
            block.pins -= 1

    def empty(self, size: int, hold_timeout_s: float) -> Shared:
        """Return memory of this channel, as (size,) uint8. Raises StoreError as `take` does."""
        block = self.take(size, hold_timeout_s)
        memory = reserved(block, size, self)
        self.give_back(block)
        return memory

    def refer(self, block: Block, places: Sequence[Place]) -> None:
        """Make a block refer to other shared memory, which stays in use as long as the block."""
        with self._lock:
            self._pool.refer(block, [place.within for place in places])
            if not self._ticks:
                self._ticks = True
                self._wake()
            for shared in block.elsewhere:
                if shared.hold is not None:
                    shared.hold.pass_on()
            put_numbers(block.memory.data, [self._others.number_of(shared) for shared in block.elsewhere])

    def put(self, content: bytes | bytearray | memoryview, consumers: int, channels: Sequence[str]) -> bool:
        """Write one small block, with one record of each channel, if no wait is needed; return whether it was written.

        This combines `begin`, `wait_for_room`, `take` and `hand_over` under one acquisition of the lock.
        """
        with self._lock:
            size, listening = len(content), 0
            for consumer in self._consumers:
                if consumer.listens:
                    listening += 1
                    if not consumer.latest and not consumer.has_room():
                        return False
            if not listening or listening < consumers:
                return False
            block = self._pool.take(size, self._is_free)
            if block is None:
                return False
            self.begin(len(channels))
            block.pins += 1
            block.memory.data[:size] = content
            self.hand_over(block, size, channels)
            if self._pool.wish_bytes:
                self._wake()
            return True

    def hand_over(self, block: Block, size: int, channels: Sequence[str]) -> None:
        """Send the location of the block, with one record of each channel, to all consumers.

        Sent records outlive this process.
        """
        with self._lock:
            given = Given(block, size, self._handed, channels)
            if block.elsewhere:
                given.elsewhere = {
                    self._others.number_of(each): each.segment for each in block.elsewhere if each.segment
                }
                given.weight = size + sum(each.nbytes for each in block.elsewhere)
            block.pins -= 1
            for number in self._others.take_gone():
                self._forget(number)
            for consumer in tuple(self._consumers):
                if not consumer.listens:
                    continue
                try:
                    if consumer.latest:
                        consumer.offer(given)
                        if consumer.wants:
                            consumer.answer()
                    else:
                        self._insist(consumer, given)
                except BlockingIOError:
                    pass  # a `latest` consumer with a full socket: kept until it asks again
                except OSError:
                    self._drop(consumer)
            self._handed += len(given.channels)

    def audience(self) -> int:
        """Return the number of consumers."""
        with self._lock:
            return len(self._listening())

    def close(self) -> None:
        """Notify the consumers of the end, and release all memory that they do not hold."""
        with self._lock:
            self._closing = self._waiting.closing = True
            self._wake_up.set()
        if self.pid != os.getpid():
            return
        self._wake()
        self._thread.join()
        self._endpoint.leave()
        with self._lock:
            for consumer in [key.data for key in self._selector.get_map().values() if key.data is not None]:
                if consumer.listens:
                    with contextlib.suppress(OSError):  # the consumer is gone, or will see the closed socket
                        consumer.end()
            for block in self._pool.in_use():
                if not self._is_free(block):
                    retire_elsewhere(block)  # the readers of the memory it refers to are no longer tracked
            for consumer in [key.data for key in self._selector.get_map().values() if key.data is not None]:
                consumer.drop()
            self._pool.close()
        self._shut()
        self._wake_up.close()

    def abandon(self) -> None:
        """Close the copies in a forked process, so that it does not keep its parent's channel alive."""
        self._shut()
        self._wake_up.abandon()

    def _shut(self) -> None:
        _open.discard(self)
        self._selector.close()
        for connection in (self._endpoint.listener, self._waker, self._woken, *(c.connection for c in self._consumers)):
            connection.close()

    def _has_readers(self) -> bool:
        return any(c.listens and not c.latest and c.unread() > 0 for c in self._consumers)

    def _is_free(self, block: Block) -> bool:
        for consumer in self._consumers:  # noqa: SIM110 - a generator takes three times as long, for each write
            if consumer.holds(block):
                return False
        return True

    def _listening(self) -> list[Consumer]:
        return [consumer for consumer in self._consumers if consumer.listens]

    def _insist(self, consumer: Consumer, given: Given) -> None:
        try:  # without suppress(), which takes longer than the message
            consumer.give(given)
            return
        except BlockingIOError:
            pass
        for _ in self._waiting.until(None, lambda: ""):
            with contextlib.suppress(BlockingIOError):
                consumer.give(given)
                return

    # -- consumers; with the lock held -------------------------------------------------------------------------------

    def _add(self, consumer: Consumer) -> None:
        try:
            consumer.greet(self._about, self._wake_up, begun=self._begun, handed=self._handed)
        except (OSError, StoreError):
            consumer.drop()
            return
        self._consumers.append(consumer)
        consumer.connection.setblocking(False)
        self._selector.register(consumer.connection, selectors.EVENT_READ, consumer)
        self._announce(consumer)

    def _drop(self, consumer: Consumer) -> None:
        if not consumer.gone:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(consumer.connection)
            self._drop_dead(consumer)
            self._wake_up.set()

    def _drop_dead(self, consumer: Consumer) -> None:
        """Remove a dead consumer, and retire the blocks that it may have passed on."""
        for block in consumer.held_when_it_died(self._pool.in_use()):
            self._retire(block)
        consumer.drop()
        if consumer in self._consumers:
            self._consumers.remove(consumer)

    def _retire(self, block: Block) -> None:
        retire_elsewhere(block)
        self._pool.retire(block.segment)

    def _forget(self, segment: int) -> None:
        for consumer in self._consumers:
            with contextlib.suppress(OSError):  # the consumer keeps an unused mapping, or is gone
                consumer.forget(segment)

    # -- listening: the thread ---------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a wake-up is already pending
            self._waker.send(b"x", socket.MSG_DONTWAIT)

    def _listen(self) -> None:
        tick_s = TICK_S
        while not self._closing:
            events = self._selector.select(tick_s if self._ticks else None)
            if not events:  # referenced memory is freed before the next write: its producer may wait for it
                with self._lock:
                    tick_s = TICK_S if self._pool.take_back(self._is_free) else min(2 * tick_s, _LONGEST_TICK_S)
                    self._ticks = self._pool.refers
            for key, _ in events:
                with self._lock:
                    if key.fileobj is self._endpoint.listener:
                        self._accept()
                    elif key.fileobj is self._woken:
                        self._woken.recv(64)
                        tick_s = TICK_S
                    elif isinstance(key.data, Consumer) and not key.data.gone:
                        self._hear(key.data)
                    self._wake_up.set()
            self._make_ready()

    def _make_ready(self) -> None:
        """Allocate in advance the memory that the next frame may need."""
        with self._lock:
            wish, self._pool.wish_bytes = self._pool.wish_bytes, 0
        if not wish:
            return
        try:
            segment = new_memory("penstock-channel", wish)
        except StoreError:
            return  # the write that needs it raises the error
        with self._lock:
            if self._pool.ready is not None:
                segment.close()
                return
            self._pool.keep_ready(segment)
            for consumer in self._listening():
                self._announce(consumer)

    def _announce(self, consumer: Consumer) -> None:
        if self._pool.ready is not None:
            with contextlib.suppress(
                OSError
            ):  # its socket is full and the first block will carry the segment, or the consumer is gone
                consumer.announce(self._pool.ready)

    def _accept(self) -> None:
        try:
            connection, _ = self._endpoint.listener.accept()
        except BlockingIOError:
            return
        except OSError:  # too many open files: the connection waits until one is free
            self._changed.wait(TICK_S)
            return
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, Consumer(connection))

    def _hear(self, consumer: Consumer) -> None:
        try:
            data, descriptor = receive(consumer.connection)
            if descriptor is not None:
                os.close(descriptor)
            if not data:
                raise ConnectionResetError
            if consumer.control is None:
                hello = unpack_hello(data)
                consumer.latest, consumer.pid = hello.get("latest") is True, int(hello.get("pid", 0))
                consumer.title = str(hello.get("title", "?"))
                self._selector.unregister(consumer.connection)
                self._add(consumer)
            elif data[:1] == NEED:
                consumer.wants = True
                consumer.answer()
            elif data[:1] == RETIRE:
                number = int.from_bytes(data[1:5], "little")
                for block in self._pool.in_use():
                    if block.number == number and consumer.holds(block):
                        self._retire(block)
                        consumer.control.set_flag(number, FREE)
            elif data[:1] == HELLO:
                consumer.title = str(unpack_hello(data).get("title", "?"))
        except BlockingIOError:
            pass
        except (OSError, StoreError, ValueError):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(consumer.connection)
            if not consumer.gone:
                self._drop_dead(consumer)


def _after_fork() -> None:
    for producer in list(_open):
        producer.abandon()


os.register_at_fork(after_in_child=_after_fork)
