"""LiveEdge: one edge of a run, where records wait, or are dropped or put aside when it is full."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from penstock.compose.node import Edge
from penstock.errors import RunAborted
from penstock.record import Record
from penstock.record_size import even_parts, weights
from penstock.run.edges.chunk import Barrier, Chunk, End

if TYPE_CHECKING:
    from penstock.run.edges.inbox import Inbox
    from penstock.run.edges.spill import SpillQueue

_log = logging.getLogger("penstock.run")

CAPACITY: Final = 1024
CAPACITY_BYTES: Final = 64 * 2**20
SPILL_AGAIN_S: Final = 1.0
"""How long an edge that spills waits before it looks again whether the disk has room."""


class LiveEdge:
    """One edge of a run: a bounded queue of chunks into an inbox, by its policy when full.

    All state is under the lock of the inbox. `put` is called by one thread, the lane before it.

    Attributes:
        counted: One list that is put is one list that is taken, neither cut nor joined, be it empty: that is how
            the lists of several workers are brought back in order.
        name: "before >> after".
        detached: Its giver is being removed: the inbox forgets the edge when it has ended.
        partial: Its giver gave records before it was there, or after it was left.
        drained: Set when the lane behind has taken its end.
        put_count, taken_count, lost_count: Records that came, that the lane behind took, that an abort left inside.
        dropped: Records that the policy dropped, by channel.
        recovered_count: Records that a dead run left in the files of an edge that spills, and that came first.
        kept_count: Records that an abort left there.
    """

    def __init__(self, inbox: Inbox, name: str, edge: Edge, *, since: float = 0, counted: bool = False) -> None:
        self.inbox = inbox
        self.name = name
        self.settings = edge
        self.policy, self._argument = edge.policy()
        self.capacity = edge.capacity or CAPACITY
        self.capacity_bytes = edge.capacity_bytes or CAPACITY_BYTES
        self.since: float = since
        self.counted = counted
        self.put_count = self.taken_count = self.lost_count = 0
        self.dropped: Counter[str] = Counter()
        self.waiting = 0
        self.waiting_bytes = 0
        self.blocked_since: float | None = None
        self.last_put = time.monotonic()
        self.items: deque[Chunk | Barrier | End] = deque()
        self.ended = False
        self.held = False
        self.detached = False
        self.partial = False
        self.drained = threading.Event()
        self._gaps: set[str] = set()
        self._room = threading.Condition(inbox.lock)
        self._every = int(self._argument) if self.policy == "sample" else 0
        self._turn: Counter[str] = Counter()
        self._admit = getattr(self, f"_put_{self.policy}")
        self.recovered_count = self.kept_count = 0
        self._spill: SpillQueue | None = None
        if self.policy == "spill":
            self.items = self._spill = self._spill_queue()
        inbox.add(self)

    def _spill_queue(self) -> SpillQueue:
        from penstock.run.edges.spill import SpillQueue

        return SpillQueue(
            self._argument,
            capacity=self.capacity,
            capacity_bytes=self.capacity_bytes,
            left_over=self._found,
            on_room=self._room.notify,
        )

    def _found(self, count: int) -> None:
        self.recovered_count += count
        self.waiting += count

    def open(self) -> None:
        """Take hold of the directory of an edge that spills, and of what a dead run left there.

        More than once does nothing. Raises StoreError, OSError.
        """
        if self._spill is not None:
            with self.inbox.lock:
                self._spill.open()
                self.inbox.wake()

    def close(self) -> None:
        """Let go of the directory; only for an edge of a run that could not start. More than once does nothing."""
        if self._spill is not None:
            with self.inbox.lock:
                self._spill.close()

    @property
    def in_flight(self) -> int:
        """Return how many records wait here."""
        return self.waiting

    def waiting_channels(self) -> Counter[str]:
        """Return how many records of each channel wait here in memory, beside those in files. From any thread."""
        with self.inbox.lock:
            chunks = [item for item in self.items if isinstance(item, Chunk)]
        return Counter(record.channel for chunk in chunks for record in chunk.records)

    def put(self, born_ns: int, records: Sequence[Record]) -> None:
        """Hand records over, by the policy of the edge. Raises RunAborted."""
        parts = self._parts(records) if records else [(records, 0)]
        left = len(records)
        with self.inbox.lock:
            self.put_count += left
            self.last_put = time.monotonic()
            if not records:
                self._append(Chunk(born_ns, records, 0))
                return
            for part, each in parts:
                left -= len(part)
                try:
                    self._admit(born_ns, part, each)
                except RunAborted:
                    self.lost_count += left
                    raise

    def _parts(self, records: Sequence[Record]) -> Sequence[tuple[Sequence[Record], int]]:
        """Return the list with what one of its records takes; in parts if they are heavy and of different sizes."""
        if self.policy == "spill":  # it weighs by itself what stays in memory
            return [(records, 0)]
        if self.counted:
            return [(records, -(-sum(weights(records)) // len(records)))]
        return even_parts(records, self.capacity_bytes // 16)

    def control(self, item: Barrier | End) -> None:
        """Hand over what is no record; it never waits and is never dropped."""
        with self.inbox.lock:
            self.items.append(item)
            self.inbox.wake()

    def abort(self) -> None:
        """Count what is inside as lost and let a waiting `put` go; called under the lock of the inbox."""
        kept = self._spill.keep() if self._spill is not None else 0
        self.kept_count += kept
        self.lost_count += self.waiting - kept
        self.waiting = self.waiting_bytes = 0
        self.items.clear()
        self.drained.set()
        self._room.notify_all()

    def take(self, most: int) -> Chunk | Barrier | End:
        """Return what is first, with what follows it up to `most` records; called under the lock of the inbox."""
        first = self.items.popleft()
        if not isinstance(first, Chunk):
            return first
        if not self.counted and self.items and len(first.records) < most:
            first = self._gather(first, most)
        self._took(first)
        if self._gaps:
            first.records = self._mark(first.records)
        return first

    def _gather(self, first: Chunk, most: int) -> Chunk:
        records = list(first.records)
        total_bytes = first.each_bytes * len(records)
        while self.items:
            following = self.items[0]
            if not isinstance(following, Chunk) or len(records) + len(following.records) > most:
                break
            self.items.popleft()
            records.extend(following.records)
            total_bytes += following.each_bytes * len(following.records)
        if len(records) == len(first.records):
            return first
        # The bytes given back must be those that were counted, so what the division drops is kept in the count.
        self.waiting_bytes -= total_bytes % len(records)
        return Chunk(first.born_ns, records, total_bytes // len(records))

    def _took(self, chunk: Chunk) -> None:
        count = len(chunk.records)
        self.taken_count += count
        self.waiting -= count
        self.waiting_bytes -= count * chunk.each_bytes
        if self.waiting <= self.capacity // 2:
            self._room.notify()

    def _append(self, chunk: Chunk, *, behind: int = 0) -> None:
        """Let a chunk in; after an abort it is lost, with those `behind` it that were put together with it."""
        if self.inbox.aborted:
            self.lost_count += len(chunk.records) + behind
            raise RunAborted(f"edge {self.name}: the run is aborted")
        self.items.append(chunk)
        self.waiting += len(chunk.records)
        self.waiting_bytes += len(chunk.records) * chunk.each_bytes
        self.inbox.wake()

    def _free(self, each_bytes: int) -> int:
        """Return how many records of this size there is room for."""
        if not self.waiting:
            return max(1, min(self.capacity, self.capacity_bytes // max(1, each_bytes)))
        room_bytes = (self.capacity_bytes - self.waiting_bytes) // max(1, each_bytes)
        return max(0, min(self.capacity - self.waiting, room_bytes))

    def _wait_for_room(self, each_bytes: int, left: int) -> int:
        """Wait until there is room for a record, or, where lists are counted, for all that are left."""
        free = self._free(each_bytes)
        while not free or (self.counted and free < left and self.waiting):
            if self.inbox.aborted:
                self.lost_count += left
                raise RunAborted(f"edge {self.name}: the run is aborted")
            if self.blocked_since is None:
                self.blocked_since = time.monotonic()
            self._room.wait()
            free = self._free(each_bytes)
        self.blocked_since = None
        return free

    def _put_block(self, born_ns: int, records: Sequence[Record], each: int) -> None:
        done = 0
        while done < len(records):
            free = self._wait_for_room(each, len(records) - done)
            whole = self.counted or (not done and free >= len(records))
            part = records if whole else records[done : done + free]
            done += len(part)
            self._append(Chunk(born_ns, part, each), behind=len(records) - done)

    def _put_drop_newest(self, born_ns: int, records: Sequence[Record], each: int) -> None:
        free = self._free(each)
        taken, refused = records[:free], records[free:]
        if taken:
            self._append(Chunk(born_ns, self._mark(taken), each), behind=len(refused))
        self._drop(refused)

    def _put_drop_oldest(self, born_ns: int, records: Sequence[Record], each: int) -> None:
        self._append(Chunk(born_ns, records, each))
        for item in self.items:
            excess = self.waiting - self.capacity
            if isinstance(item, Chunk):
                while item.records and (excess > 0 or (self.waiting_bytes > self.capacity_bytes and self.waiting > 1)):
                    count = max(1, min(excess, len(item.records)))
                    self._discard(item, item.records[:count], item.records[count:])
                    excess = self.waiting - self.capacity
        self._forget_empty()

    def _put_latest(self, born_ns: int, records: Sequence[Record], each: int) -> None:
        newest = {record.channel: index for index, record in enumerate(records)}
        for item in self.items:
            if isinstance(item, Chunk) and any(record.channel in newest for record in item.records):
                old = [record for record in item.records if record.channel in newest]
                self._discard(item, old, [record for record in item.records if record.channel not in newest])
        self._forget_empty()
        kept = set(newest.values())
        self._drop([record for index, record in enumerate(records) if index not in kept])
        self._append(Chunk(born_ns, [records[index] for index in sorted(kept)], each))

    def _put_sample(self, born_ns: int, records: Sequence[Record], each: int) -> None:
        free = self._free(each)
        if free >= len(records):
            self._append(Chunk(born_ns, self._mark(records), each))
            return
        for index, record in enumerate(records):
            if not self._free(each):
                self._turn[record.channel] += 1
                if self._turn[record.channel] % self._every:
                    self._drop([record])
                    continue
                self._wait_for_room(each, len(records) - index)
            self._append(Chunk(born_ns, self._mark([record]), each), behind=len(records) - index - 1)

    def _put_spill(self, born_ns: int, records: Sequence[Record], each: int) -> None:
        assert self._spill is not None  # the policy of this edge
        while not self.inbox.aborted:
            full: OSError | None = None
            if self._spill.has_room():
                try:
                    self._append(Chunk(born_ns, records, 0))
                except OSError as error:  # nothing is lost: as long as the disk is full, the edge blocks
                    full = error
                else:
                    self.blocked_since = None
                    return
            if self.blocked_since is None:
                self.blocked_since = time.monotonic()
                _log.warning("edge %s: %s: it blocks until there is room", self.name, full or "its files are full")
            self._room.wait(SPILL_AGAIN_S)
        self.lost_count += len(records)
        raise RunAborted(f"edge {self.name}: the run is aborted")

    def _discard(self, item: Chunk, gone: Sequence[Record], kept: Sequence[Record]) -> None:
        self.waiting -= len(gone)
        self.waiting_bytes -= len(gone) * item.each_bytes
        self._drop(gone)
        item.records = kept

    def _forget_empty(self) -> None:
        if any(isinstance(item, Chunk) and not item.records for item in self.items):
            self.items = deque(item for item in self.items if not isinstance(item, Chunk) or item.records)

    def _drop(self, records: Sequence[Record]) -> None:
        for record in records:
            self.dropped[record.channel] += 1
            self._gaps.add(record.channel)

    def _mark(self, records: Sequence[Record]) -> Sequence[Record]:
        """Mark the first record of each channel behind a drop: it does not continue the one before it."""
        if not self._gaps:
            return records
        marked = list(records)
        for index, record in enumerate(marked):
            if record.channel in self._gaps:
                self._gaps.discard(record.channel)
                marked[index] = record.replace(discontinuity=True)
        return marked
