"""The policies of full edges: one class for each, which admits records, drops them, or makes them wait."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from penstock.compose.policies import Block, DropNewest, DropOldest, Latest, Policy, Sample, Spill
from penstock.errors import RunAborted
from penstock.fields import part_of
from penstock.record import Record
from penstock.run.edges.chunk import Chunk

if TYPE_CHECKING:
    from penstock.run.edges.edge import LiveEdge
    from penstock.run.edges.spill import SpillQueue

_log = logging.getLogger("penstock.run")

SPILL_AGAIN_S: Final = 1.0
"""Seconds before an edge that spills checks again whether the disk has room."""


class Admission:
    """Admit records to one edge by its policy. All methods are called under the lock of the inbox.

    Attributes:
        takes_what_fits: Whether records that fit are appended before the policy is applied.
        drops_waiting: Whether it drops waiting records: then the next record that is taken is marked, otherwise the
            next one that is put.
        spill: The queue of an edge that spills, which measures the records that stay in memory itself.
    """

    spill: SpillQueue | None = None
    takes_what_fits: bool = True
    drops_waiting: bool = False

    def __init__(self, edge: LiveEdge, policy: Any) -> None:
        self.edge = edge

    def put(self, received_ns: int, records: Sequence[Record], each: int) -> None:
        """Take records of about `each` bytes. Raises RunAborted; records that are not taken are counted as lost."""
        raise NotImplementedError


class Blocking(Admission):
    """Wait for room."""

    def put(self, received_ns: int, records: Sequence[Record], each: int) -> None:
        edge = self.edge
        done = 0
        while done < len(records):
            free = edge.wait_for_room(each, len(records) - done)
            whole = edge.counted or (not done and free >= len(records))
            part = records if whole else part_of(records, done, done + free)
            done += len(part)
            edge.append(Chunk(received_ns, part, each), behind=len(records) - done)


class DroppingNewest(Admission):
    """Take as many records as fit, and drop the rest."""

    def put(self, received_ns: int, records: Sequence[Record], each: int) -> None:
        free = self.edge.free(each)
        taken, refused = records[:free], records[free:]
        if taken:
            self.edge.append(Chunk(received_ns, self.edge.marked(taken), each), behind=len(refused))
        self.edge.drop(refused)


class DroppingOldest(Admission):
    """Take all records, and drop the oldest ones to make room."""

    drops_waiting = True

    def put(self, received_ns: int, records: Sequence[Record], each: int) -> None:
        edge = self.edge
        edge.append(Chunk(received_ns, records, each))
        for item in edge.items:
            excess = edge.waiting - edge.capacity
            if isinstance(item, Chunk):
                while item.records and (excess > 0 or (edge.waiting_bytes > edge.capacity_bytes and edge.waiting > 1)):
                    count = max(1, min(excess, len(item.records)))
                    edge.discard(item, item.records[:count], item.records[count:])
                    excess = edge.waiting - edge.capacity
        _forget_empty(edge)


class KeepingLatest(Admission):
    """Replace the older records of each channel with the newest."""

    drops_waiting = True
    takes_what_fits = False

    def put(self, received_ns: int, records: Sequence[Record], each: int) -> None:
        edge = self.edge
        newest = {record.channel: index for index, record in enumerate(records)}
        for item in edge.items:
            if isinstance(item, Chunk) and any(record.channel in newest for record in item.records):
                old = [record for record in item.records if record.channel in newest]
                edge.discard(item, old, [record for record in item.records if record.channel not in newest])
        _forget_empty(edge)
        kept = set(newest.values())
        edge.drop([record for index, record in enumerate(records) if index not in kept])
        edge.append(Chunk(received_ns, [records[index] for index in sorted(kept)], each))


class Sampling(Admission):
    """Wait for room for every n-th record of a channel."""

    def __init__(self, edge: LiveEdge, policy: Sample) -> None:
        super().__init__(edge, policy)
        self._every = policy.n
        self._turn: Counter[str] = Counter()

    def put(self, received_ns: int, records: Sequence[Record], each: int) -> None:
        edge = self.edge
        free = edge.free(each)
        if free >= len(records):
            edge.append(Chunk(received_ns, edge.marked(records), each))
            return
        for index, record in enumerate(records):
            if not edge.free(each):
                self._turn[record.channel] += 1
                if self._turn[record.channel] % self._every:
                    edge.drop([record])
                    continue
                edge.wait_for_room(each, len(records) - index)
            edge.append(Chunk(received_ns, edge.marked([record]), each), behind=len(records) - index - 1)


class Spilling(Admission):
    """Put records into files when the memory is full, and wait when these are full, too."""

    takes_what_fits = False
    spill: SpillQueue

    def __init__(self, edge: LiveEdge, policy: Spill) -> None:
        from penstock.run.edges.spill import SpillQueue

        super().__init__(edge, policy)
        self.spill = SpillQueue(
            policy,
            capacity=edge.capacity,
            capacity_bytes=edge.capacity_bytes,
            left_over=edge.found,
            on_room=edge.room.notify,
        )

    def put(self, received_ns: int, records: Sequence[Record], each: int) -> None:
        edge = self.edge
        while not edge.inbox.aborted:
            full: OSError | None = None
            if self.spill.has_room():
                try:
                    edge.append(Chunk(received_ns, records, 0))
                except OSError as error:  # nothing is lost: the edge blocks while the disk is full
                    full = error
                else:
                    edge.blocked_since = None
                    return
            if edge.blocked_since is None:
                edge.blocked_since = time.monotonic()
                _log.warning("edge %s: %s: it blocks until there is room", edge.name, full or "its files are full")
            edge.room.wait(SPILL_AGAIN_S)
        edge.lost_count += len(records)
        raise RunAborted(f"edge {edge.name}: the run is aborted")


_ADMISSIONS: Final[dict[type[Policy], type[Admission]]] = {
    Block: Blocking,
    DropOldest: DroppingOldest,
    DropNewest: DroppingNewest,
    Latest: KeepingLatest,
    Sample: Sampling,
    Spill: Spilling,
}


def admission(edge: LiveEdge, policy: Policy) -> Admission:
    """Return the object that admits records to an edge by this policy."""
    return _ADMISSIONS[type(policy)](edge, policy)


def _forget_empty(edge: LiveEdge) -> None:
    if any(isinstance(item, Chunk) and not item.records for item in edge.items):
        edge.items = deque(item for item in edge.items if not isinstance(item, Chunk) or item.records)
