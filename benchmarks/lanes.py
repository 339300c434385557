"""What leading a record from one component to the next costs, fused and over an edge."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from measure import Row, best, per_record

import penstock as ps
from penstock.run.edges.chunk import END, Chunk
from penstock.run.edges.edge import LiveEdge
from penstock.run.edges.inbox import Inbox


def first(record: ps.Record) -> ps.Record:
    """Do as little as a processor can."""
    return record


def second(record: ps.Record) -> ps.Record:
    """Do the same once more."""
    return record


def third(record: ps.Record) -> ps.Record:
    """Do the same a third time."""
    return record


def changed(record: ps.Record) -> ps.Record:
    """Do what most do: give a changed record."""
    return record.replace(data=record.data + 1)


class Shelf:
    """Count what it is given; fused, since it never blocks."""

    blocks = False

    def __init__(self) -> None:
        self.count = 0

    def open(self) -> None:
        """Do nothing."""

    def write(self, records: list[ps.Record]) -> None:
        """Count."""
        self.count += len(records)

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def through(records: list[ps.Record], *steps: object) -> None:
    """Run records through these processors and an optional edge into a shelf, and see that all came."""
    shelf = Shelf()
    flow = ps.Flow.of(ps.source(records))
    for step in steps:
        flow = flow >> step  # type: ignore[operator]  # a processor or an edge
    report = ps.Pipeline(flow >> ps.store(shelf)).run()
    assert report.ok, report
    assert shelf.count == len(records)


def rows(scale: float) -> Iterator[Row]:
    """Measure with `scale` times the usual number of records."""
    count = int(300_000 * scale)
    records = [ps.Record(n, channel="c", seq=n) for n in range(count)]

    def bare() -> None:
        for record in records:
            third(second(first(record)))

    def bare_changed() -> None:
        for record in records:
            changed(changed(changed(record)))

    name = "3 processors fused between source and store"
    yield per_record(
        f"{name}, doing nothing",
        "bare loop over the same calls",
        best(lambda: through(records, first, second, third), bare, 5),
        count,
        least_ratio=1 / 3,
    )
    yield per_record(
        f"{name}, changing records",
        "bare loop over the same calls",
        best(lambda: through(records, changed, changed, changed), bare_changed, 3),
        count,
        least_ratio=1 / 3,
    )

    def simple_queue() -> None:
        between: queue.SimpleQueue[ps.Record | None] = queue.SimpleQueue()

        def take() -> None:
            while between.get() is not None:
                pass

        taker = threading.Thread(target=take)
        taker.start()
        put = between.put
        for record in records:
            put(record)
        put(None)
        taker.join()

    def edge() -> None:
        inbox = Inbox()
        live = LiveEdge(inbox, "a >> b", ps.edge(capacity=1024))
        taken = 0

        def take() -> None:
            nonlocal taken
            while isinstance(item := inbox.get(None), Chunk):
                taken += len(item.records)

        taker = threading.Thread(target=take)
        taker.start()
        for start in range(0, count, 256):
            live.put(1, records[start : start + 256])
        live.control(END)
        taker.join()
        assert taken == count

    queue_name = "queue.SimpleQueue (unbounded), one thread puts, one gets"
    seconds = best(edge, simple_queue, 5)
    yield per_record("an edge of 1024 alone, lists of 256", queue_name, seconds, count, least_ratio=1.0)
    seconds = best(lambda: through(records, ps.edge(capacity=1024)), simple_queue, 5)
    yield per_record("source, edge of 1024, store: the whole run", queue_name, seconds, count)
