"""LiveEdge: one edge of a run, where records wait, and are dropped or written to files when it is full."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from penstock.compose.node import Edge
from penstock.errors import RunAborted
from penstock.fields import joined
from penstock.record import Record
from penstock.record_size import Sizes, weigh
from penstock.run.edges.chunk import MOST_AT_ONCE, Barrier, Chunk, End
from penstock.run.edges.full import admission

if TYPE_CHECKING:
    from penstock.run.edges.inbox import Inbox

CAPACITY: Final = 1024
CAPACITY_BYTES: Final = 64 * 2**20


class LiveEdge:
    """One edge of a run: a bounded queue of chunks into an inbox, with a policy for when it is full.

    The lock of the inbox guards all state. `put` is called by one thread, the lane before it. The policy's class in
    `penstock.run.edges.full` calls `append`, `free`, `wait_for_room`, `drop`, `discard` and `marked`.

    Attributes:
        counted: Lists are neither split nor joined, and empty ones are kept, so that the order of the lists of several
            workers can be restored.
        name: "before >> after".
        detached: The lane before it is being removed: the inbox forgets the edge when it has ended.
        partial: The lane before it emitted records before the edge existed, or after it was detached.
        drained: Set when the lane behind has taken its end.
        put_count, taken_count, lost_count: Records that were put, taken by the lane behind, and lost in an abort.
        dropped: Records that the policy dropped, by channel.
        recovered_count: Records that a dead run left in the files of an edge that spills; they are taken first.
        kept_count: Records that an abort left in these files.
    """

    def __init__(self, inbox: Inbox, name: str, edge: Edge, *, since: float = 0, counted: bool = False) -> None:
        self.inbox = inbox
        self.name = name
        self.settings = edge
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
        self.room = threading.Condition(inbox.lock)
        self.recovered_count = self.kept_count = 0
        self._admission = admission(self, edge.when_full)
        self._admit = self._admission.put
        self._spill = self._admission.spill
        self._joins = self._admission.takes_what_fits and not counted
        if self._spill is not None:
            self.items = self._spill
        inbox.add(self)

    def found(self, count: int) -> None:
        """Count records that a dead run left in the files of this edge."""
        self.recovered_count += count
        self.waiting += count

    def open(self) -> None:
        """Open the directory of an edge that spills, and find the records that a dead run left there.

        May be called more than once. Raises StoreError, OSError.
        """
        if self._spill is not None:
            with self.inbox.lock:
                self._spill.open()
                self.inbox.wake()

    def close(self) -> None:
        """Release the directory of an edge whose run could not start. May be called more than once."""
        if self._spill is not None:
            with self.inbox.lock:
                self._spill.close()

    @property
    def in_flight(self) -> int:
        """Return how many records wait here."""
        return self.waiting

    def waiting_channels(self) -> Counter[str]:
        """Return how many records of each channel wait here in memory, without those in files. From any thread."""
        with self.inbox.lock:
            chunks = [item for item in self.items if isinstance(item, Chunk)]
        return Counter(record.channel for chunk in chunks for record in chunk.records)

    def put(
        self, received_ns: int, records: Sequence[Record], sizes: Sizes | None = None, *, late: bool = False
    ) -> None:
        """Put records into the queue, by the policy of the edge. Raises RunAborted."""
        parts = self._parts(records, sizes) if records else [(records, 0)]
        left = len(records)
        with self.inbox.lock:
            self.put_count += left
            self.last_put = time.monotonic()
            if not records:
                self.append(Chunk(received_ns, records, 0))
                return
            if self._joins and len(parts) == 1 and self._join(received_ns, records, parts[0][1]):
                return
            for part, each in parts:
                left -= len(part)
                try:
                    self._admit(received_ns, part, each)
                except RunAborted:
                    self.lost_count += left
                    raise
            if late and self.counted:
                cast("Chunk", self.items[-1]).is_late = True

    def _parts(self, records: Sequence[Record], sizes: Sizes | None) -> Sequence[tuple[Sequence[Record], int]]:
        """Return the list with the size of one record; in parts if the records are large and of different sizes."""
        if self._spill is not None:  # it measures the records that stay in memory itself
            return [(records, 0)]
        if sizes is None:
            if len(records) == 1:  # at once: single records pass at more than half a million a second
                return [(records, weigh(records))]
            sizes = Sizes(records)
        if self.counted or len(records) == 1:
            return [(records, -(-sizes.total_bytes() // len(records)))]
        return sizes.even_parts(self.capacity_bytes // 16)

    def _join(self, received_ns: int, records: Sequence[Record], each_bytes: int) -> bool:
        """Append records if all of them fit, which every policy accepts; return whether they did.

        Records of the same size as the last ones are added to their list, so that the edge does not fill with single
        ones.
        """
        count, items = len(records), self.items
        size_bytes = count * each_bytes
        if self.waiting + count > self.capacity or self.waiting_bytes + size_bytes > self.capacity_bytes:
            return False
        if self._gaps or self.inbox.aborted:
            return False
        last = items[-1] if items else None
        if type(last) is Chunk and last.each_bytes == each_bytes and len(last.records) + count <= MOST_AT_ONCE:
            if not last.is_own:  # others may hold the list that was put
                last.records = list(last.records)
                last.is_own = True
            cast("list[Record]", last.records).extend(records)
        else:
            items.append(Chunk(received_ns, records, each_bytes))
        self.waiting += count
        self.waiting_bytes += size_bytes
        self.inbox.wake()
        return True

    def control(self, item: Barrier | End) -> None:
        """Put a barrier or the end into the queue; it never waits and is never dropped."""
        with self.inbox.lock:
            self.items.append(item)
            self.inbox.wake()

    def abort(self) -> None:
        """Count the waiting records as lost and end a blocked `put`; called under the lock of the inbox."""
        kept = self._spill.keep() if self._spill is not None else 0
        self.kept_count += kept
        self.lost_count += self.waiting - kept
        self.waiting = self.waiting_bytes = 0
        self.items.clear()
        self.drained.set()
        self.room.notify_all()

    def take(self, most: int) -> Chunk | Barrier | End:
        """Return the first item, joined with the chunks that follow up to `most` records; called under the lock."""
        first = self.items.popleft()
        if not isinstance(first, Chunk):
            return first
        if not self.counted and self.items and len(first.records) < most:
            first = self._gather(first, most)
        self._count_taken(first)
        if self._gaps and self._admission.drops_waiting:
            first.records = self.marked(first.records)
        return first

    def _gather(self, first: Chunk, most: int) -> Chunk:
        parts = [first.records]
        count = len(first.records)
        total_bytes = first.each_bytes * count
        while self.items:
            following = self.items[0]
            if not isinstance(following, Chunk) or count + len(following.records) > most:
                break
            self.items.popleft()
            parts.append(following.records)
            count += len(following.records)
            total_bytes += following.each_bytes * len(following.records)
        if len(parts) == 1:
            return first
        # The bytes subtracted later must equal those added, so the remainder of the division is subtracted here.
        self.waiting_bytes -= total_bytes % count
        return Chunk(first.received_ns, joined(parts), total_bytes // count)

    def _count_taken(self, chunk: Chunk) -> None:
        count = len(chunk.records)
        self.taken_count += count
        self.waiting -= count
        self.waiting_bytes -= count * chunk.each_bytes
        if self.blocked_since is not None and self.waiting <= self.capacity // 2:
            self.room.notify()

    def append(self, chunk: Chunk, *, behind: int = 0) -> None:
        """Append a chunk; after an abort it is lost, with the `behind` records that were put together with it."""
        if self.inbox.aborted:
            self.lost_count += len(chunk.records) + behind
            raise RunAborted(f"edge {self.name}: the run is aborted")
        self.items.append(chunk)
        self.waiting += len(chunk.records)
        self.waiting_bytes += len(chunk.records) * chunk.each_bytes
        self.inbox.wake()

    def free(self, each_bytes: int) -> int:
        """Return the number of records of this size that fit in."""
        if not self.waiting:
            return max(1, min(self.capacity, self.capacity_bytes // max(1, each_bytes)))
        room_bytes = (self.capacity_bytes - self.waiting_bytes) // max(1, each_bytes)
        return max(0, min(self.capacity - self.waiting, room_bytes))

    def wait_for_room(self, each_bytes: int, left: int) -> int:
        """Wait until there is room for one record, or, where lists are counted, for all that are left."""
        free = self.free(each_bytes)
        while not free or (self.counted and free < left and self.waiting):
            if self.inbox.aborted:
                self.lost_count += left
                raise RunAborted(f"edge {self.name}: the run is aborted")
            if self.blocked_since is None:
                self.blocked_since = time.monotonic()
            self.room.wait()
            free = self.free(each_bytes)
        self.blocked_since = None
        return free

    def discard(self, item: Chunk, gone: Sequence[Record], kept: Sequence[Record]) -> None:
        """Drop some records of a waiting chunk, and keep the others."""
        self.waiting -= len(gone)
        self.waiting_bytes -= len(gone) * item.each_bytes
        self.drop(gone)
        item.records = kept

    def drop(self, records: Sequence[Record]) -> None:
        """Count records as dropped."""
        for record in records:
            self.dropped[record.channel] += 1
            self._gaps.add(record.channel)

    def marked(self, records: Sequence[Record]) -> Sequence[Record]:
        """Mark the first record of each channel after a drop: it does not continue the previous one."""
        if not self._gaps:
            return records
        marked = list(records)
        for index, record in enumerate(marked):
            if record.channel in self._gaps:
                self._gaps.discard(record.channel)
                marked[index] = record.replace(discontinuity=True)
        return marked
