"""LiveEdge and Inbox: how lists of records, barriers and ends go from one lane to another, and wait."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from penstock.errors import RunAborted, RunError
from penstock.node import Edge
from penstock.record import Record
from penstock.run.size import weigh

if TYPE_CHECKING:
    from penstock.run.spill import SpillQueue

_log = logging.getLogger("penstock.run")

CAPACITY: Final = 1024
CAPACITY_BYTES: Final = 64 * 2**20
SPILL_AGAIN_S: Final = 1.0
"""How long an edge that spills waits before it looks again whether the disk has room."""
MOST_AT_ONCE: Final = 256
"""Records that are taken together at most, so that a lane looks up often enough."""


@attrs.frozen
class Barrier:
    """Follow the records through every lane: what comes before it belongs to checkpoint `number`."""

    number: int


@attrs.frozen
class End:
    """Say that nothing more will come on this edge."""


END: Final = End()


@attrs.define(eq=False)
class Chunk:
    """A list of records that travels together, never changed once it is put.

    Attributes:
        born_ns: When the source handed them over (monotonic clock, ns).
        records: At least one, but for an edge whose lists are counted.
        each_bytes: What one of them takes, about.
    """

    born_ns: int
    records: Sequence[Record]
    each_bytes: int


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
        from penstock.run.spill import SpillQueue

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

    def put(self, born_ns: int, records: Sequence[Record]) -> None:
        """Hand records over, by the policy of the edge. Raises RunAborted."""
        each = weigh(records) if records else 0
        with self.inbox.lock:
            self.put_count += len(records)
            self.last_put = time.monotonic()
            if not records:
                self._append(Chunk(born_ns, records, 0))
            else:
                self._admit(born_ns, records, each)

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

    def _append(self, chunk: Chunk) -> None:
        if self.inbox.aborted:
            self.lost_count += len(chunk.records)
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
            try:
                self._append(Chunk(born_ns, part, each))
            except RunAborted:
                self.lost_count += len(records) - done
                raise

    def _put_drop_newest(self, born_ns: int, records: Sequence[Record], each: int) -> None:
        free = self._free(each)
        taken, refused = records[:free], records[free:]
        if taken:
            self._append(Chunk(born_ns, self._mark(taken), each))
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
            self._append(Chunk(born_ns, self._mark([record]), each))

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


class Inbox:
    """What a lane reads: one or several edges, by turns.

    Attributes:
        edges: The edges that are read; one that was detached leaves when it has ended.
        in_turn: Take one chunk from each edge in strict rotation; that is how the order survives several workers.
        aligned: Do not read on behind a barrier until it has come on every edge.
    """

    def __init__(self, *, in_turn: bool = False, aligned: bool = False) -> None:
        self.lock = threading.Lock()
        self.in_turn = in_turn
        self.aligned = aligned
        self.aborted = False
        self.edges: list[LiveEdge] = []
        self._closing = False
        self._closed = False
        self._nudged = False
        self._something = threading.Condition(self.lock)
        self._idle = False
        self._turn = 0
        self._seen: set[LiveEdge] = set()
        self._pending: int | None = None

    def add(self, edge: LiveEdge) -> None:
        """Read this edge too. Raises RunError if everything has ended."""
        with self.lock:
            if self._closed:
                raise RunError(f"edge {edge.name}: what it leads to has ended already")
            self.edges = [*self.edges, edge]

    def close(self) -> None:
        """End when all edges have ended, even if none is left; called when the run is about to end."""
        with self.lock:
            self._closing = True
            self._something.notify()

    def expect(self, barrier: Barrier) -> None:
        """Be told that this barrier is about to come: where no edge is left to bring it, it passes by itself."""
        with self.lock:
            self._pending = barrier.number
            if not self.edges:
                self._something.notify()

    def nudge(self) -> None:
        """Let the reader look up: `get` returns None once."""
        with self.lock:
            self._nudged = True
            self._something.notify()

    def wake(self) -> None:
        """Tell the reader that something came; called under the lock."""
        if self._idle:
            self._something.notify()

    def abort(self) -> None:
        """End all waiting on both sides with RunAborted; what is inside counts as lost."""
        with self.lock:
            self.aborted = True
            for edge in self.edges:
                edge.abort()
            self._something.notify_all()

    def get(self, timeout_s: float | None, most: int = MOST_AT_ONCE) -> Chunk | Barrier | End | None:
        """Return what is next; a Barrier or END once it has come on every edge; None when the time is over.

        Raises RunAborted.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self.lock:
            while True:
                if self.aborted:
                    raise RunAborted("the run is aborted")
                if self._nudged:
                    self._nudged = False
                    return None
                found = self._next(most)
                if found is not None:
                    return found
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._idle = True
                self._something.wait(left)
                self._idle = False

    def _next(self, most: int) -> Chunk | Barrier | End | None:
        control = self._controls()
        if control is not None:
            return control
        count = len(self.edges)
        for step in range(count):
            index = (self._turn + step) % count
            edge = self.edges[index]
            if edge.ended or edge.held:
                continue
            if edge.items:
                self._turn = (index + 1) % count
                return edge.take(most)
            if self.in_turn:
                self._turn = index
                return None
        return None

    def _controls(self) -> Barrier | End | None:
        """Take the barriers and ends that are first in their edges; return one that is complete."""
        for edge in self.edges:
            while edge.items and not edge.held and not isinstance(edge.items[0], Chunk):
                item = edge.items.popleft()
                if isinstance(item, Barrier):
                    self._seen.add(edge)
                    edge.held = self.aligned
                    complete = self._complete(item)
                else:
                    complete = self._end(edge)
                if complete is not None:
                    return complete
        if not self.edges and self._pending is not None:
            return self._complete(Barrier(self._pending))
        if all(edge.ended for edge in self.edges) and (self.edges or self._closing):
            self._closed = True
            return END
        return None

    def _end(self, edge: LiveEdge) -> Barrier | None:
        """Note that an edge has ended; return the barrier that waited for nothing else."""
        edge.ended = True
        edge.drained.set()
        self._seen.discard(edge)
        if edge.detached:
            self.edges = [other for other in self.edges if other is not edge]
            self._turn = 0
        if self._pending is None or not self._seen or all(other.ended for other in self.edges):
            return None
        return self._complete(Barrier(self._pending))

    def _complete(self, barrier: Barrier) -> Barrier | None:
        self._pending = barrier.number
        if all(edge in self._seen or edge.ended or edge.since >= barrier.number for edge in self.edges):
            self._seen.clear()
            self._pending = None
            for edge in self.edges:
                edge.held = False
            return barrier
        return None

    def waiting(self) -> Iterable[tuple[str, int]]:
        """Return the name of each edge and how many records wait in it."""
        return [(edge.name, edge.waiting) for edge in self.edges]
