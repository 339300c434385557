"""SpillQueue: the queue of an edge that continues in files when its share of memory is full.

Records in memory are always older than those in the files, so the order is kept: once a record is in a file, all
later ones go there until the files are empty. Barriers and ends keep their place between the records.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from penstock.compose.policies import Spill
from penstock.errors import CodecError, StoreError
from penstock.record import Record
from penstock.record_size import total_bytes
from penstock.run.edges.chunk import Barrier, Chunk, End
from penstock.run.edges.spill_files import BACK_AT_ONCE, SpillFiles

Item = Chunk | Barrier | End


@attrs.define(eq=False)
class _Stretch:
    """A number of consecutive records in the files, returned by the source at about the same time."""

    received_ns: int
    count: int


class SpillQueue(deque[Item]):
    """A deque of the items in memory, with newer ones in files. Guarded by the lock of the edge's inbox.

    Args:
        policy: The directory of its files, and their maximal size.
        capacity, capacity_bytes: The most that it keeps in memory.
        left_over: Called with the number of records of a dead run, as they are read.
        on_room: Called when there may be more room than before.

    Attributes:
        on_disk: Records of this run that are in the files and have not been read back.
    """

    def __init__(
        self,
        policy: Spill,
        *,
        capacity: int,
        capacity_bytes: int,
        left_over: Callable[[int], None],
        on_room: Callable[[], None],
    ) -> None:
        super().__init__()
        self.files = SpillFiles(Path(policy.directory), policy.max_bytes)
        self.on_disk = 0
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._left_over = left_over
        self._on_room = on_room
        self._memory = self._memory_bytes = 0
        self._weights: dict[int, tuple[int, int]] = {}
        self._later: deque[_Stretch | Item] = deque()
        self._back: Chunk | None = None
        self._broken_off: set[str] = set()
        self._state = "new"

    def open(self) -> None:
        """Open the directory, and read back records of a dead run. Raises StoreError, OSError; see `SpillFiles`."""
        if self._state == "new":
            self.files.open()
            self._state = "open"
            self._refill()

    def close(self) -> None:
        """Release the files; unread records stay for the next run. Any number of times."""
        if self._state == "open":
            self.files.close()
        self._state = "closed"

    def keep(self) -> int:
        """Keep the records in the files for the next run, drop the others; return the number kept, as far as known.

        Used by an abort. Records that were read back and not taken are still in the files.
        """
        kept = self.on_disk
        if self and self[0] is self._back:
            self.files.unread_last()
            kept += len(self._back.records)
        if self._state == "open":
            self.files.sweep()
        self.close()
        self.clear()
        self._later.clear()
        self._weights.clear()
        self.on_disk = self._memory = self._memory_bytes = 0
        return kept

    def has_room(self) -> bool:
        """Return whether there is room for more records, in the files or for those that cannot be written to files."""
        self.open()
        return self._memory <= 2 * self._capacity and (not self._spilling() or self.files.has_room())

    def append(self, item: Item) -> None:
        """Append an item: to memory if it fits and the files are empty, else to the files.

        Records that cannot be written as bytes stay in memory, in their order.

        Raises:
            OSError: the disk is full; nothing was appended. Barriers and ends are always appended.
        """
        self.open()
        if self._state == "closed":
            super().append(item)
            return
        spilling = self._spilling()
        if isinstance(item, Chunk) and item.records:
            count = len(item.records)
            weight = total_bytes(item.records)
            if not spilling and self._fits(count, weight):
                self._remember(item, weight)
                self._add(item)
                return
            if self._write(item):
                if not self:
                    self._refill()
                return
            self._remember(item, weight)
        if spilling:
            self._later.append(item)
        else:
            self._add(item)

    def popleft(self) -> Item:
        """Return the first item; read the next ones back if memory is empty. Raises OSError, StoreError."""
        item = super().popleft()
        count, weight = self._weights.pop(id(item), (0, 0))
        self._memory -= count
        self._memory_bytes -= weight
        if item is self._back:
            self._back = None
        if not self:
            self._refill()
        if count:
            self._on_room()
        if isinstance(item, End):
            self.close()
        return item

    def _spilling(self) -> bool:
        return bool(self._later) or self.files.unread is not None

    def _fits(self, count: int, weight: int) -> bool:
        if self._memory + count > self._capacity:
            return False
        return self._memory_bytes + weight <= self._capacity_bytes or (not self._memory and count == 1)

    def _remember(self, chunk: Chunk, weight: int) -> None:
        self._weights[id(chunk)] = (len(chunk.records), weight)
        self._memory += len(chunk.records)
        self._memory_bytes += weight

    def _write(self, chunk: Chunk) -> bool:
        """Write records to the files; return False if they cannot be written as bytes. Raises OSError."""
        try:
            self.files.write(chunk.records)
        except CodecError:
            return False
        last = self._later[-1] if self._later else None
        if isinstance(last, _Stretch) and last.count + len(chunk.records) <= BACK_AT_ONCE:
            last.count += len(chunk.records)
        else:
            self._later.append(_Stretch(chunk.received_ns, len(chunk.records)))
        self.on_disk += len(chunk.records)
        return True

    def _refill(self) -> None:
        """Read the next records back. Called when memory is empty: all records that were read back have been taken."""
        if self._state == "open" and self.files.sweep():
            self._on_room()
        while not self:
            segment = self.files.unread
            if segment is not None and segment.left_over:
                self._read_left_over()
            elif not self._later:
                return
            elif isinstance(self._later[0], _Stretch):
                self._read_stretch(self._later[0])
            else:
                self._add(self._later.popleft())  # type: ignore[arg-type]  # not a _Stretch: see above

    def _add(self, item: Item) -> None:
        if isinstance(item, Chunk):
            item.records = self._mark(item.records)
        super().append(item)

    def _read_stretch(self, stretch: _Stretch) -> None:
        records = self.files.read(min(stretch.count, self._capacity))
        if not records:
            raise StoreError(f"{self.files.directory}: {stretch.count} spilled records are missing from its files")
        stretch.count -= len(records)
        self.on_disk -= len(records)
        if not stretch.count:
            self._later.popleft()
        self._bring_back(Chunk(stretch.received_ns, self._mark(records), 0))

    def _read_left_over(self) -> None:
        segment = self.files.unread
        assert segment is not None  # checked by the caller
        try:
            records = self.files.read(self._capacity)
        except CodecError as error:
            self.files.set_aside(segment, error)
            return
        if not records:
            return
        marked: list[Record] = []
        for record in records:
            marked.append(record if record.channel in self._broken_off else record.replace(discontinuity=True))
            self._broken_off.add(record.channel)
        self._left_over(len(marked))
        self._bring_back(Chunk(time.monotonic_ns(), marked, 0))

    def _mark(self, records: Sequence[Record]) -> Sequence[Record]:
        """Mark the first record of each channel after those of a dead run: it does not continue them."""
        if not self._broken_off:
            return records
        marked = list(records)
        for index, record in enumerate(marked):
            if record.channel in self._broken_off:
                self._broken_off.discard(record.channel)
                marked[index] = record.replace(discontinuity=True)
        return marked

    def _bring_back(self, chunk: Chunk) -> None:
        self._remember(chunk, 0)
        super().append(chunk)
        self._back = chunk
