"""PushSource: a source that other threads put records into."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import attrs

from penstock.buffers import IMMUTABLE, BufferWatch
from penstock.errors import EndOfSource, PenstockError, RunError
from penstock.record import Record
from penstock.record_size import OVERHEAD_BYTES, size_of
from penstock.validators import at_least, one_of

_UNNAMED: Final = "\0 the name of the node"
"""The channel of records put before the node has a name, replaced by the name when they are read."""
WhenFull = Literal["block", "drop_oldest", "drop_newest"]


class PutTimeoutError(PenstockError, TimeoutError):
    """There was no room in time."""


@attrs.define(kw_only=True)
class Inlet:
    """A bounded queue between any number of putting threads and one reader. All methods: any thread.

    The lock keeps the putting threads in order; the reader takes records without it, so that neither waits for the
    other. Each side has its own count of bytes. A side that is going to wait announces this, then checks once more; the
    other acts first, then checks for waiters: so no wake-up is missed.

    Its content is not a setting: two are equal if their settings are, and pickling drops the content.

    Attributes:
        capacity, capacity_bytes, when_full: Those of `PushSource`.
        on_drop: Called with each record that `drop_oldest` drops, under the lock: it must not wait.
        dropped: Records dropped because it was full, by channel.
        lost: Records left inside at the end, by channel.
        closed: Set when the reader has gone.
    """

    capacity: int = 1024
    capacity_bytes: int = 64 * 2**20
    when_full: WhenFull = "block"
    on_drop: Callable[[Record], None] | None = attrs.field(default=None, init=False, eq=False, repr=False)
    dropped: Counter[str] = attrs.field(factory=Counter, init=False, eq=False, repr=False)
    lost: Counter[str] = attrs.field(factory=Counter, init=False, eq=False, repr=False)
    closed: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    _items: deque[tuple[Record, int]] = attrs.field(factory=deque, init=False, eq=False, repr=False)
    _put_bytes: int = attrs.field(default=0, init=False, eq=False, repr=False)
    _taken_bytes: int = attrs.field(default=0, init=False, eq=False, repr=False)
    _ended: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    _ended_for_now: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    _idle: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    _woken: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    _blocked: int = attrs.field(default=0, init=False, eq=False, repr=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, eq=False, repr=False)
    _something: threading.Condition = attrs.field(init=False, eq=False, repr=False)
    _room: threading.Condition = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._something = threading.Condition(threading.Lock())
        self._room = threading.Condition(self._lock)

    @property
    def full(self) -> bool:
        """Whether there is no room at this moment."""
        return len(self._items) >= self.capacity or self._put_bytes - self._taken_bytes >= self.capacity_bytes

    def __len__(self) -> int:
        return len(self._items)

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return _inlet, (self.capacity, self.capacity_bytes, self.when_full)

    def put(
        self,
        size_bytes: int,
        make: Callable[..., Record | None],
        *given: Any,
        timeout_s: float | None,
        channel: str,
        is_of_use: Callable[..., bool] | None = None,
    ) -> bool:
        """Wait for room for a record of this size, then put the result of `make(*given)`, a record of this channel.

        If there is no room, it asks `is_of_use(*given)` before it waits.

        `make` is called under the lock, so that records are made in the order in which they are read; it must not
        wait. If it returns None or raises, nothing was put; it is not called for records that `drop_newest` drops.

        Returns:
            Whether it was put; False if `make` returned None, if the inlet is full and drops the newest, or if
            `is_of_use` returned False.

        Raises:
            PutTimeoutError: there was no room within `timeout_s` seconds.
            RunError: the reader has gone, or `end` was called.
        """
        items = self._items
        with self._lock:
            fits = not items or (
                len(items) < self.capacity and self._put_bytes - self._taken_bytes + size_bytes <= self.capacity_bytes
            )
            if not fits and is_of_use is not None and not is_of_use(*given):
                return False
            if not fits and self.when_full == "block":
                self._wait_for_room(size_bytes, timeout_s)
                fits = True
            if self.closed or self._ended:
                raise RunError("nothing can be put any more: the source has ended")
            if not fits and self.when_full == "drop_newest":
                self.dropped[channel] += 1
                return False
            record = make(*given)
            if record is None:
                return False
            if not fits:
                self._drop_for(size_bytes)
            items.append((record, size_bytes))
            self._put_bytes += size_bytes
            if self._idle:
                self._wake_reader()
            return True

    def take(self, most: int, timeout_s: float) -> list[Record]:
        """Return the first records, at most `most`; none if none arrived in time. Raises EndOfSource."""
        items = self._items
        ended = self._ended  # read first: nothing is put after it is set
        if not items:
            if ended:
                raise EndOfSource("nothing more will be put")
            if timeout_s > 0 and self._wait_for_records(timeout_s) and not items:
                raise EndOfSource("nothing more will be put")
        taken: list[Record] = []
        add, first = taken.append, items.popleft
        try:
            for _ in range(min(most, len(items))):
                record, size_bytes = first()
                self._taken_bytes += size_bytes
                add(record)
        except IndexError:  # a putting thread has dropped the oldest meanwhile
            pass
        if self._blocked and len(items) <= self.capacity // 2:
            with self._lock:
                self._room.notify_all()
        return taken

    def wake(self) -> None:
        """Wake the reader that waits for records, or the next one to wait."""
        self._woken = True
        self._wake_reader()

    def end(self) -> None:
        """Accept no more records; those inside are still read, and then the source ends."""
        with self._lock:
            self._ended = True
            self._room.notify_all()
        self._wake_reader()

    def end_for_now(self) -> None:
        """Do the same, until `open`."""
        if not self._ended:
            self._ended_for_now = True
            self.end()

    def open(self) -> None:
        """Begin to be read."""
        with self._lock:
            self.closed = False
            if self._ended_for_now:
                self._ended = self._ended_for_now = False
            self.lost.clear()
            self.dropped.clear()

    def close(self) -> None:
        """Wake the threads that wait for room; count unread records as lost."""
        with self._lock:
            self.closed = True
            while (left := self._pop()) is not None:
                self.lost[left.channel] += 1
                self._gone(left)
            self._room.notify_all()

    def _wait_for_records(self, timeout_s: float) -> bool:
        """Wait until there are records, or the reader is woken; return whether no record will come any more."""
        deadline = time.monotonic() + timeout_s
        with self._something:
            while True:
                self._idle = True
                ended = self._ended
                left = deadline - time.monotonic()
                if self._items or ended or self._woken or left <= 0:
                    self._idle = self._woken = False
                    return ended
                self._something.wait(left)

    def _wake_reader(self) -> None:
        """Wake the reader, once: until it is awake, no further wake-up is needed."""
        self._idle = False
        with self._something:
            self._something.notify()

    def _fits(self, size_bytes: int) -> bool:
        if not self._items:
            return True
        waiting_bytes = self._put_bytes - self._taken_bytes
        return len(self._items) < self.capacity and waiting_bytes + size_bytes <= self.capacity_bytes

    def _pop(self) -> Record | None:
        """Take out the oldest record under the lock; None if there is none, or the reader was faster."""
        try:
            record, size_bytes = self._items.popleft()
        except IndexError:
            return None
        self._put_bytes -= size_bytes
        return record

    def _drop_for(self, size_bytes: int) -> None:
        """Drop the oldest records until there is room for one of this size."""
        while not self._fits(size_bytes):
            oldest = self._pop()
            if oldest is not None:
                self.dropped[oldest.channel] += 1
                self._gone(oldest)

    def _wait_for_room(self, size_bytes: int, timeout_s: float | None) -> None:
        began = time.monotonic()
        if timeout_s is not None and timeout_s > threading.TIMEOUT_MAX:  # more than threads can wait
            timeout_s = None
        self._blocked += 1
        try:
            free = self._room.wait_for(lambda: self._fits(size_bytes) or self.closed or self._ended, timeout_s)
        finally:
            self._blocked -= 1
        if not free:
            waiting_bytes = self._put_bytes - self._taken_bytes
            raise PutTimeoutError(
                f"no room for {time.monotonic() - began:.3g} s: {len(self._items)} records with {waiting_bytes} bytes "
                f"wait, of at most {self.capacity} and {self.capacity_bytes}"
            )

    def _gone(self, record: Record) -> None:
        if self.on_drop is not None:
            self.on_drop(record)


def _same(record: Record, channel: str) -> Record:
    return record


def _word(policy: Any) -> Any:
    """Return the word of a policy given as a value (`ps.DropOldest()`), or the argument unchanged."""
    return policy if isinstance(policy, str) else str(policy) if hasattr(policy, "word") else policy


def _inlet(capacity: int, capacity_bytes: int, when_full: WhenFull) -> Inlet:
    return Inlet(capacity=capacity, capacity_bytes=capacity_bytes, when_full=when_full)


@attrs.define(kw_only=True)
class PushSource:
    """Read records that other threads put: keep the component, pass it to `ps.source`, and call `put` on it.

    Every run of a pipeline with this component reads the same queue. It cannot be read again: after a crash, records
    that were put and not stored are lost. In a pipeline read from a file, nothing can put records.

    Attributes:
        capacity: The most records that wait.
        capacity_bytes: The most bytes of their data, approximately; a single larger record passes.
        when_full: The behaviour of `put` when full: "block" waits; "drop_oldest" and "drop_newest" drop, which the
            account counts as dropped upstream.
        channel: The channel of the records made of plain data; None: the name of the node.
        reuses_buffers: Whether callers reuse an array that they have put: True copies each, False none;
            None: detected, as in `IterableSource`.
        inlet: The queue; shared by the copies of this component.
    """

    in_memory: ClassVar[bool] = True

    capacity: int = attrs.field(default=1024, validator=at_least(1))
    capacity_bytes: int = attrs.field(default=64 * 2**20, validator=at_least(1))
    when_full: WhenFull = attrs.field(
        default="block", converter=_word, validator=one_of("block", "drop_oldest", "drop_newest")
    )
    channel: str | None = None
    reuses_buffers: bool | None = None
    _node: str = attrs.field(default=_UNNAMED, init=False, eq=False, repr=False)
    inlet: Inlet = attrs.field(
        default=attrs.Factory(lambda self: _inlet(self.capacity, self.capacity_bytes, self.when_full), takes_self=True),
        repr=False,
    )
    stays_valid: ClassVar[bool] = True
    _watch: BufferWatch = attrs.field(
        default=attrs.Factory(lambda self: BufferWatch(self.reuses_buffers, "put"), takes_self=True),
        init=False,
        eq=False,
        repr=False,
    )
    _early: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    _count: int = attrs.field(default=0, init=False, eq=False, repr=False)

    def take_node_name(self, name: str) -> None:
        """Take the name of the node as channel, unless there is one."""
        self._node = name

    def put(self, records: Iterable[Any], *, timeout_s: float | None = None) -> int:
        """Put records, or plain data of which records are made, in order. Any thread.

        Args:
            records: Records stay as they are; anything else becomes the `data` of one.
            timeout_s: Seconds that the whole call may wait for room; 0 does not wait; None waits for ever.

        Returns:
            The number of records put; less than all only if `when_full` is "drop_newest".

        Raises:
            PutTimeoutError: there was no room in time; those before it were put.
            RunError: the source has ended; those before it were put.
            BufferReusedError: the memory of a record in flight was put again.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        count = 0
        make: Callable[[Any, str], Record]
        for given in records:
            item = given if type(given) in IMMUTABLE else self._watch.kept(given)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if isinstance(item, Record):
                channel, make = item.channel, _same
            else:
                channel = self._node if self.channel is None else self.channel
                make = self._record
            size_bytes = OVERHEAD_BYTES + size_of(item)
            count += self.inlet.put(size_bytes, make, item, channel, timeout_s=left, channel=channel)
        return count

    def end(self) -> None:
        """Accept no more records; the source ends when all have been read. Any thread."""
        self.inlet.end()

    def end_soon(self) -> None:
        """Do the same as `end`, but only until it is opened by another run."""
        self.inlet.end_for_now()

    def wake(self) -> None:
        """Let the waiting `read`, or else the next one, return at once. Any thread."""
        self.inlet.wake()

    def lag(self) -> int:
        """Return how many records wait to be read."""
        return len(self.inlet)

    def open(self) -> None:
        """Begin to be read."""
        self.inlet.open()

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        records = self.inlet.take(max_records, timeout_s)
        if self._early and records:
            self._early = len(self.inlet) > 0
            return [record.replace(channel=self._named(record.channel)) for record in records]
        return records

    def close(self) -> None:
        """Wake the threads that wait to put; unread records are lost, and counted."""
        self.inlet.close()

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many records of each channel were left when it was closed."""
        return self._by_channel(self.inlet.lost)

    def dropped_upstream(self) -> Mapping[str, int]:
        """Return how many records of each channel were dropped because it was full."""
        return self._by_channel(self.inlet.dropped)

    def _record(self, data: Any, channel: str) -> Record:
        number = self._count
        self._count += 1
        self._early = self._early or channel == _UNNAMED
        return Record(data, channel=channel, seq=number, time_ns=time.time_ns())

    def _named(self, channel: str) -> str:
        if channel != _UNNAMED:
            return channel
        return "" if self._node == _UNNAMED else self._node  # "" without any node

    def _by_channel(self, counts: Counter[str]) -> dict[str, int]:
        named: Counter[str] = Counter()
        for channel, count in dict(counts).items():
            named[self._named(channel)] += count
        return dict(named)
