"""The writing side of a channel: it sends blocks, admits consumers, and waits for them with a reason and an end."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from penstock.errors import StoreError
from penstock_shm.channel.audience import Consumer, Given
from penstock_shm.channel.control import FREE
from penstock_shm.channel.pool import READY_BYTES, Block, Pool, Segment, new_memory
from penstock_shm.channel.reference import put_numbers
from penstock_shm.channel.shared import Place, Shared, SharedSegment
from penstock_shm.channel.wake_up import WakeUpEvent
from penstock_shm.directory import usable
from penstock_shm.rendezvous import EXCLUSIVE, LATEST, PRODUCER, Endpoint, join
from penstock_shm.wire import HELLO, NEED, RETIRE, receive, unpack_hello

_TICK_S = 0.02
_open: weakref.WeakSet[Producer] = weakref.WeakSet()


class Producer:
    """Hold the memory, the consumers, and the thread that listens to them."""

    def __init__(self, channel_name: str, *, exclusive: bool, most_bytes: int | None) -> None:
        """Join the channel, send hello to its consumers, and start listening."""
        self.label = f"shm channel {channel_name!r}"
        self.pid = os.getpid()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._about: dict[str, Any] = {"pid": self.pid, "title": title()}
        self._consumers: list[Consumer] = []
        self._pool = Pool(self.label, most_bytes, self._forget)
        self._pool.wish_bytes = READY_BYTES if most_bytes is None or most_bytes >= READY_BYTES else 0
        self._others: weakref.WeakKeyDictionary[SharedSegment, int] = weakref.WeakKeyDictionary()
        self._gone: deque[int] = deque()
        self._begun = 0
        self._handed = 0
        self._closing = False
        self._endpoint: Endpoint = join(channel_name, EXCLUSIVE if exclusive else PRODUCER)
        with usable(self.label), contextlib.ExitStack() as undo:
            undo.callback(self._endpoint.give_up)
            self._selector = selectors.DefaultSelector()
            undo.callback(self._selector.close)
            wake_up = WakeUpEvent()
            undo.callback(wake_up.close)
            self._waker, self._woken = socket.socketpair()
            self._wake_up = wake_up
            undo.pop_all()
        self._selector.register(self._endpoint.listener, selectors.EVENT_READ, None)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        for role, pid, connection in self._endpoint.met:
            self._add(Consumer(connection, latest=role == LATEST, pid=pid))
        self._make_ready()  # here, since the first record may follow immediately
        _open.add(self)
        self._thread = threading.Thread(target=self._listen, name=f"penstock {self.label}", daemon=True)
        self._thread.start()

    # -- writing -------------------------------------------------------------------------------------------------

    def begin(self, count: int) -> None:
        """Announce that `count` more records are being written, so that consumers can count those lost by a death."""
        with self._lock:
            self._begun += count
            for consumer in self._consumers:
                if consumer.control is not None:
                    consumer.control.begin(self._begun)

    def wait_for_room(self, consumers: int, timeout_s: float | None) -> bool:
        """Return once `consumers` listen and each lossless one has room; False if none listens."""
        with self._lock:
            listening = self._listening()
            if len(listening) < consumers:
                for _ in self._until(timeout_s, lambda: self._too_few(consumers)):
                    if len(listening := self._listening()) >= consumers:
                        break
            while any(not c.latest and not c.has_room() for c in listening):
                for _ in self._until(None, lambda: ""):
                    listening = self._listening()
                    if all(c.latest or c.has_room() for c in listening):
                        break
            return bool(listening)

    def take(self, size: int, hold_timeout_s: float) -> Block:
        """Return a free block, pinned until `hand_over` or `give_back`.

        Raises:
            StoreError: consumers hold all memory for `hold_timeout_s`; it names the one that holds most.
        """
        with self._lock:
            block = self._pool.take(size, self._is_free)
            if block is None:
                for _ in self._until(hold_timeout_s, lambda: self._held(size), busy=self._somebody_reads):
                    block = self._pool.take(size, self._is_free)
                    if block is not None:
                        break
            assert block is not None  # _until does not end by itself
            block.pins += 1
            if self._pool.wish_bytes:
                self._wake()
            return block

    def give_back(self, block: Block) -> None:
        """Let a block be used again that was taken and not handed over."""
        with self._lock:
            block.pins -= 1

    def empty(self, size: int, hold_timeout_s: float) -> Shared:
        """Return memory of this channel, as (size,) uint8. StoreError: as `take`."""
        block = self.take(size, hold_timeout_s)
        memory = _Reserved((size,), np.uint8, buffer=block.segment.mapped, offset=block.offset)
        memory.segment, memory.at, memory.owner, memory.block = block.segment, block.offset, self, block
        block.is_reserved = True
        self.give_back(block)
        return memory

    def refer(self, block: Block, places: Sequence[Place]) -> None:
        """Have a block refer to memory elsewhere, which stays in use as long as the block."""
        with self._lock:
            self._pool.refer(block, [place.within for place in places])
            for shared in block.elsewhere:
                if shared.hold is not None:
                    shared.hold.pass_on()
            put_numbers(block.memory.data, [self._number_of(shared) for shared in block.elsewhere])

    def _number_of(self, shared: Shared) -> int:
        """Return the number by which consumers know the segment of this memory."""
        segment = shared.segment
        if isinstance(segment, Segment):
            return segment.number
        assert segment is not None  # place_of has seen it
        if segment not in self._others:
            self._others[segment] = number = self._pool.new_number()
            weakref.finalize(segment, self._gone.append, number).atexit = False
        return self._others[segment]

    def put(self, content: bytes | memoryview, consumers: int, channels: Sequence[str]) -> bool:
        """Write one small block, with a record of each of these channels, if that need not wait; return whether it was.

        This does under one lock what `begin`, `wait_for_room`, `take` and `hand_over` do otherwise.
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
        """Send the location of the block, with a record of each of these channels, to all consumers.

        Sent records outlive this process.
        """
        with self._lock:
            given = Given(block, size, self._handed, channels)
            if block.elsewhere:
                given.elsewhere = {self._number_of(each): each.segment for each in block.elsewhere if each.segment}
                given.weight = size + sum(each.nbytes for each in block.elsewhere)
            block.pins -= 1
            while self._gone:
                self._forget(self._gone.popleft())
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
        """Notify the consumers of the end, and release everything that they do not hold."""
        with self._lock:
            self._closing = True
            self._wake_up.set()
        if self.pid != os.getpid():
            return
        self._wake()
        self._thread.join()
        self._endpoint.leave()
        with self._lock:
            for consumer in [key.data for key in self._selector.get_map().values() if key.data is not None]:
                if consumer.listens:
                    with contextlib.suppress(OSError):  # it is gone, or will see that this side has closed
                        consumer.end()
            for block in self._pool.in_use():
                if not self._is_free(block):
                    _retire(block)  # nobody will watch who reads what it refers to
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

    # -- waiting; with the lock held ---------------------------------------------------------------------------------

    def _until(
        self, timeout_s: float | None, complaint: Callable[[], str], busy: Callable[[], bool] | None = None
    ) -> Iterator[None]:
        """Yield repeatedly until the caller leaves; raise after `timeout_s` in which `busy` was never true."""
        yield
        started_s = time.monotonic()
        try:
            while True:
                for consumer in self._consumers:
                    consumer.request_wake()
                yield  # once more: it may have released a block before it saw the request
                self._doze()
                if self._closing:
                    raise StoreError(f"{self.label}: closed while a write waited; its records were not written")
                yield
                if busy is not None and busy():
                    started_s = time.monotonic()
                if timeout_s is not None and time.monotonic() - started_s > timeout_s:
                    raise StoreError(complaint())
        finally:
            for consumer in self._consumers:
                if consumer.control is not None:
                    consumer.control.end_wait()

    def _doze(self) -> None:
        """Release the lock until a consumer or the listening thread wakes this one, or for one tick."""
        self._lock.release()
        try:
            self._wake_up.wait(_TICK_S)
        finally:
            self._lock.acquire()

    def _too_few(self, wanted: int) -> str:
        have = len(self._listening())
        return (
            f"{self.label}: {have} of {wanted} consumers are attached; start a source 'shm' with this channel_name, "
            "wait longer (consumer_timeout_s), or set wait_for_consumers=0 to discard records without consumers"
        )

    def _held(self, size: int) -> str:
        blocks = self._pool.in_use()
        held = {c.name: [b for b in blocks if c.holds(b)] for c in self._consumers}
        name, most = max(held.items(), key=lambda item: sum(b.size for b in item[1]), default=("nobody", []))
        return (
            f"{self.label}: no memory for a record of {size} bytes, since consumer {name} holds {len(most)} blocks "
            f"({sum(b.size for b in most)} bytes) of records that it has read; release or copy them there, "
            "or raise max_bytes"
        )

    def _somebody_reads(self) -> bool:
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
        for _ in self._until(None, lambda: ""):
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
            self._bury(consumer)
            self._wake_up.set()

    def _bury(self, consumer: Consumer) -> None:
        """Go on without a consumer that is dead; others may still read what it has passed on."""
        for block in consumer.held_when_it_died(self._pool.in_use()):
            self._retire(block)
        consumer.drop()
        if consumer in self._consumers:
            self._consumers.remove(consumer)

    def _retire(self, block: Block) -> None:
        _retire(block)
        self._pool.retire(block.segment)

    def _forget(self, segment: int) -> None:
        for consumer in self._consumers:
            with contextlib.suppress(OSError):  # it keeps an unused mapping, or is gone
                consumer.forget(segment)

    # -- listening: the thread ---------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is being woken already
            self._waker.send(b"x", socket.MSG_DONTWAIT)

    def _listen(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select():
                with self._lock:
                    if key.fileobj is self._endpoint.listener:
                        self._accept()
                    elif key.fileobj is self._woken:
                        self._woken.recv(64)
                    elif isinstance(key.data, Consumer) and not key.data.gone:
                        self._hear(key.data)
                    self._wake_up.set()
            self._make_ready()

    def _make_ready(self) -> None:
        """Allocate the memory that the next frame may need, while nobody waits for it."""
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
            with contextlib.suppress(OSError):  # its socket is full: the first block will carry it; or it is gone
                consumer.announce(self._pool.ready)

    def _accept(self) -> None:
        try:
            connection, _ = self._endpoint.listener.accept()
        except BlockingIOError:
            return
        except OSError:  # too many open files: the connection waits until one is free
            self._changed.wait(_TICK_S)
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
                self._bury(consumer)


class _Reserved(Shared):
    """Memory of a block that a user fills; the block may be used again when no array in it is left."""

    block: Block | None = None

    def __del__(self) -> None:
        if self.block is not None:
            self.block.is_reserved = False


def _retire(block: Block) -> None:
    """Have nobody use the memory again that a block refers to."""
    for shared in block.elsewhere:
        if shared.hold is not None:
            shared.hold.retire()
    block.elsewhere = ()


def title() -> str:
    """Return the name of this program, for messages in other processes."""
    return os.path.basename(sys.argv[0] or sys.executable) or "python"


def _after_fork() -> None:
    for producer in list(_open):
        producer.abandon()


os.register_at_fork(after_in_child=_after_fork)
