"""Inbox: the input of a lane: one or several edges, read in turn, with the barriers that arrived on all of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Protocol

from penstock.errors import RunAborted, RunError
from penstock.run.edges.chunk import END, MOST_AT_ONCE, Barrier, Chunk, End


class InboxEdge(Protocol):
    """An edge, as seen by the inbox and the lane that read it.

    Attributes:
        name: "before >> after".
        counted: It carries the lists of a worker, which are neither split nor joined.
        since: The first checkpoint whose barriers it takes part in.
        items: The items that wait.
        ended: It has ended.
        held: It is not read until a barrier has come on all edges.
        detached: The lane before it is being removed: it is forgotten when it has ended.
        drained: Set when its end has been taken.
    """

    name: str
    counted: bool
    since: float
    items: deque[Chunk | Barrier | End]
    ended: bool
    held: bool
    detached: bool
    drained: threading.Event

    def open(self) -> None:
        """Open the directory of an edge that spills. Raises StoreError, OSError."""
        ...

    def close(self) -> None:
        """Close the directory of an edge whose run could not start."""
        ...

    def take(self, most: int) -> Chunk | Barrier | End:
        """Return the first item, joined with the chunks that follow up to `most` records."""
        ...

    def abort(self) -> None:
        """Count waiting records as lost, and end a blocked `put`."""
        ...


class Inbox:
    """The input of a lane: one or several edges, read in turn.

    Attributes:
        edges: The edges that are read; a detached one is removed when it has ended.
        in_turn: Take one chunk from each edge in strict rotation, which keeps the order of several workers.
        aligned: After a barrier, do not read an edge until the barrier has come on every edge.
        taken_from: The edge that the last chunk arrived on.
    """

    def __init__(self, *, in_turn: bool = False, aligned: bool = False) -> None:
        self.lock = threading.Lock()
        self.in_turn = in_turn
        self.aligned = aligned
        self.aborted = False
        self.edges: list[InboxEdge] = []
        self.taken_from: InboxEdge | None = None
        self._closing = False
        self._closed = False
        self._nudged = False
        self._something = threading.Condition(self.lock)
        self._idle = False
        self._turn = 0
        self._seen: set[InboxEdge] = set()
        self._pending: int | None = None

    def add(self, edge: InboxEdge) -> None:
        """Read this edge too. Raises RunError if all edges have ended."""
        with self.lock:
            if self._closed:
                raise RunError(f"edge {edge.name}: its consumer has ended already")
            self.edges = [*self.edges, edge]

    def close(self) -> None:
        """End once all edges have ended, even if none is left; called when the run is about to end."""
        with self.lock:
            self._closing = True
            self._something.notify()

    def expect(self, barrier: Barrier) -> None:
        """Announce this barrier: if no edge is left to carry it, it passes at once."""
        with self.lock:
            self._pending = barrier.number
            if not self.edges:
                self._something.notify()

    def nudge(self) -> None:
        """Interrupt the reader: `get` returns None once."""
        with self.lock:
            self._nudged = True
            self._something.notify()

    def wake(self) -> None:
        """Wake the reader, since an item arrived; called under the lock."""
        if self._idle:  # once: until the reader is awake, no further wake-up is needed
            self._idle = False
            self._something.notify()

    def abort(self) -> None:
        """End all waits on both sides with RunAborted; the waiting records count as lost."""
        with self.lock:
            self.aborted = True
            for edge in self.edges:
                edge.abort()
            self._something.notify_all()

    def get(self, timeout_s: float | None, most: int = MOST_AT_ONCE) -> Chunk | Barrier | End | None:
        """Return the next item; a Barrier or END once it has come on every edge; None after `timeout_s`.

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
                if not (self.in_turn and _is_late(edge)):
                    self._turn = (index + 1) % count
                self.taken_from = edge
                return edge.take(most)
            if self.in_turn:  # its list comes next, or that of an edge before it that is held
                return self._take_late(most)
        return None

    def _take_late(self, most: int) -> Chunk | Barrier | End | None:
        """Take late results, which wait for nobody's turn."""
        for edge in self.edges:
            if edge.items and not edge.held and _is_late(edge):
                self.taken_from = edge
                return edge.take(most)
        return None

    def _controls(self) -> Barrier | End | None:
        """Take the barriers and ends at the front of the edges; return one that has come on all of them."""
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

    def _end(self, edge: InboxEdge) -> Barrier | None:
        """Remove an ended edge; return the barrier that waited only for it."""
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


def _is_late(edge: InboxEdge) -> bool:
    first = edge.items[0]
    return isinstance(first, Chunk) and first.is_late
