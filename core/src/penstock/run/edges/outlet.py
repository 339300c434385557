"""Outlets: where a lane hands its records: to one edge, or by turns to the edges of several workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from zlib import crc32

from penstock.read_only import read_only
from penstock.record import Record
from penstock.run.edges.chunk import Barrier, End
from penstock.run.edges.edge import LiveEdge


class Outlet(Protocol):
    """What a lane hands records, barriers and the end to. `LiveEdge` is one."""

    def put(self, received_ns: int, records: Sequence[Record]) -> None:
        """Hand records over."""
        ...

    def control(self, item: Barrier | End) -> None:
        """Hand over a barrier or the end."""
        ...


class ByTurns:
    """Give every worker the next part of what comes, in strict rotation, so that the order can be restored."""

    def __init__(self, edges: Sequence[LiveEdge]) -> None:
        self._edges = edges
        self._turn = 0

    def put(self, received_ns: int, records: Sequence[Record]) -> None:
        """Cut the list into as many parts as there are workers, so that all have something to do."""
        workers = len(self._edges)
        size = max(1, -(-len(records) // workers))
        for start in range(0, len(records), size):
            self._edges[self._turn].put(received_ns, records[start : start + size])
            self._turn = (self._turn + 1) % workers

    def control(self, item: Barrier | End) -> None:
        """Tell all of them."""
        for edge in self._edges:
            edge.control(item)


class ByLoad:
    """Give each record to the worker that has least to do; the order is not kept."""

    def __init__(self, edges: Sequence[LiveEdge]) -> None:
        self._edges = edges

    def put(self, received_ns: int, records: Sequence[Record]) -> None:
        """Cut the list as `ByTurns` does; each part goes to the shortest queue."""
        size = max(1, -(-len(records) // len(self._edges)))
        for start in range(0, len(records), size):
            edge = min(self._edges, key=_waiting)
            edge.put(received_ns, records[start : start + size])

    def control(self, item: Barrier | End) -> None:
        """Tell all of them."""
        for edge in self._edges:
            edge.control(item)


class ByChannel:
    """Give each channel to one worker for good: what decoders need, which keep a state."""

    def __init__(self, edges: Sequence[LiveEdge]) -> None:
        self._edges = edges

    def put(self, received_ns: int, records: Sequence[Record]) -> None:
        """Sort the records by the worker of their channel."""
        parts: dict[int, list[Record]] = {}
        for record in records:
            worker = crc32(record.channel.encode("utf-8", "surrogatepass")) % len(self._edges)
            parts.setdefault(worker, []).append(record)
        for worker, part in parts.items():
            self._edges[worker].put(received_ns, part)

    def control(self, item: Barrier | End) -> None:
        """Tell all of them."""
        for edge in self._edges:
            edge.control(item)


def shared(records: Sequence[Record]) -> Sequence[Record]:
    """Return the records with data and metadata that cannot be written to, since several are about to hold them."""
    return list(map(read_only, records))


def _waiting(edge: LiveEdge) -> int:
    return edge.waiting
