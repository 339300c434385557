"""Outlets: the outputs of a lane: one edge, or the edges of several workers in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from zlib import crc32

from penstock.fields import like
from penstock.read_only import all_read_only
from penstock.record import Record
from penstock.record_size import Sizes
from penstock.run.edges.chunk import Barrier, End
from penstock.run.edges.edge import LiveEdge


class Outlet(Protocol):
    """An output of a lane, for records, barriers and the end. `LiveEdge` is one."""

    def put(
        self, received_ns: int, records: Sequence[Record], sizes: Sizes | None = None, *, late: bool = False
    ) -> None:
        """Pass records on.

        Args:
            received_ns: When the source returned them (monotonic clock, ns).
            records: At least one, except from a worker whose lists are counted.
            sizes: Measures this list, if several outlets receive it.
            late: The lane emits them on its own, and not for a list that it was sent.
        """
        ...

    def control(self, item: Barrier | End) -> None:
        """Pass a barrier or the end on."""
        ...


class ByTurns:
    """Send each worker the next part of the records, in strict rotation, so that the order can be restored."""

    def __init__(self, edges: Sequence[LiveEdge]) -> None:
        self._edges = edges
        self._turn = 0

    def put(
        self, received_ns: int, records: Sequence[Record], sizes: Sizes | None = None, *, late: bool = False
    ) -> None:
        """Split the list into as many parts as there are workers, so that all are busy."""
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
    """Send each record to the worker with the shortest queue; the order is not kept."""

    def __init__(self, edges: Sequence[LiveEdge]) -> None:
        self._edges = edges

    def put(
        self, received_ns: int, records: Sequence[Record], sizes: Sizes | None = None, *, late: bool = False
    ) -> None:
        """Split the list as `ByTurns` does; each part goes to the shortest queue."""
        size = max(1, -(-len(records) // len(self._edges)))
        for start in range(0, len(records), size):
            edge = min(self._edges, key=_waiting)
            edge.put(received_ns, records[start : start + size])

    def control(self, item: Barrier | End) -> None:
        """Tell all of them."""
        for edge in self._edges:
            edge.control(item)


class ByChannel:
    """Always send a channel to the same worker, as stateful decoders need; channels are distributed evenly.

    A new channel goes to the worker with the fewest channels. Beyond `remembered` channels, further ones are assigned
    by a hash of their names, so that memory is bounded.
    """

    def __init__(self, edges: Sequence[LiveEdge], *, remembered: int = 10_000) -> None:
        self._edges = edges
        self._remembered = remembered
        self._workers: dict[str, int] = {}
        self._channels = [0] * len(edges)

    def put(
        self, received_ns: int, records: Sequence[Record], sizes: Sizes | None = None, *, late: bool = False
    ) -> None:
        """Sort the records by the worker of their channel."""
        parts: dict[int, list[Record]] = {}
        for record in records:
            worker = self._workers.get(record.channel)
            if worker is None:
                worker = self._worker_of_new(record.channel)
            parts.setdefault(worker, []).append(record)
        for worker, part in parts.items():
            self._edges[worker].put(received_ns, part)

    def control(self, item: Barrier | End) -> None:
        """Tell all of them."""
        for edge in self._edges:
            edge.control(item)

    def _worker_of_new(self, channel: str) -> int:
        if len(self._workers) >= self._remembered:
            return crc32(channel.encode("utf-8", "surrogatepass")) % len(self._edges)
        worker = self._channels.index(min(self._channels))
        self._workers[channel] = worker
        self._channels[worker] += 1
        return worker


def shared(records: Sequence[Record]) -> Sequence[Record]:
    """Return the records with read-only data and metadata, since several lanes will hold them."""
    return like(records, all_read_only(records))


def _waiting(edge: LiveEdge) -> int:
    return edge.waiting
