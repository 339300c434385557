"""What leading a record from one component to the next costs, fused and over an edge."""

from __future__ import annotations

import functools
import itertools
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy
from measure import Row, medians, per_record

import penstock as ps
from penstock.plugins.current import installed_plugins
from penstock.run.edges.chunk import END, Chunk
from penstock.run.edges.edge import LiveEdge
from penstock.run.edges.inbox import Inbox

AT_ONCE = 1024
LIST = 256


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


def given(records: Sequence[ps.Record]) -> Iterator[ps.Record]:
    """Yield the records."""
    yield from records


def through(records: Sequence[ps.Record], *steps: Any, generated: bool = False) -> None:
    """Run records, perhaps of a generator, through processors and edges into a shelf, and see that all came."""
    shelf = Shelf()
    flow = ps.Flow.of(ps.source(given(records) if generated else records))
    for step in steps:
        flow = flow >> step
    report = ps.Pipeline(flow >> ps.store(shelf)).run(plugins=installed_plugins())
    assert report.ok, report
    assert shelf.count == len(records)


def loop(records: Sequence[ps.Record], *steps: Callable[[ps.Record], ps.Record]) -> int:
    """Do the same by hand: lists, an error costs one record; count as a run does, by channel at both ends."""
    received, passed, stored = Counter[str](), [0] * len(steps), Counter[str]()
    for start in range(0, len(records), AT_ONCE):
        part: Sequence[ps.Record] = records[start : start + AT_ONCE]
        received.update([record.channel for record in part])
        for index, step in enumerate(steps):
            results: list[ps.Record] = []
            for record in part:
                try:
                    result = step(record)
                except Exception:
                    continue
                if type(result) is ps.Record:
                    results.append(result)
            passed[index] += len(results)
            part = results
        stored.update([record.channel for record in part])
    return stored.total()


def bare(records: Sequence[ps.Record], *steps: Callable[[ps.Record], ps.Record]) -> None:
    """Call the steps for each record, and do nothing else."""
    for record in records:
        for step in steps:
            record = step(record)


def collected(records: Sequence[ps.Record]) -> None:
    """Take the records of a generator in lists, and count them by channel."""
    generator = given(records)
    received = Counter[str]()
    while part := list(itertools.islice(generator, AT_ONCE)):
        received.update([record.channel for record in part])
    assert received.total() == len(records)


def lists_of(records: Sequence[ps.Record], size: int = LIST) -> Iterator[Sequence[ps.Record]]:
    """Yield the records in lists."""
    for start in range(0, len(records), size):
        yield records[start : start + size]


def over_edge(lists: Iterable[Sequence[ps.Record]]) -> None:
    """Put lists on an edge, and take them in another thread."""
    inbox = Inbox()
    live = LiveEdge(inbox, "a >> b", ps.edge(capacity=1024))
    put = taken = 0

    def take() -> None:
        nonlocal taken
        while isinstance(item := inbox.get(None), Chunk):
            taken += len(item.records)

    taker = threading.Thread(target=take)
    taker.start()
    for records in lists:
        live.put(1, records)
        put += len(records)
    live.control(END)
    taker.join()
    assert taken == put


def over_queue(lists: Iterable[Sequence[ps.Record]], between: Any) -> None:
    """Put the same lists into a queue."""
    put = taken = 0

    def take() -> None:
        nonlocal taken
        while (item := between.get()) is not None:
            taken += len(item)

    taker = threading.Thread(target=take)
    taker.start()
    for records in lists:
        between.put(records)
        put += len(records)
    between.put(None)
    taker.join()
    assert taken == put


def singles_over_edge(records: Sequence[ps.Record]) -> None:
    """Put records on an edge one by one, as steps do, and take them in another thread."""
    over_edge([record] for record in records)


def singles_over_queue(records: Sequence[ps.Record], between: Any) -> None:
    """Put the same into a queue, each by itself."""
    taken = 0

    def take() -> None:
        nonlocal taken
        while between.get() is not None:
            taken += 1

    taker = threading.Thread(target=take)
    taker.start()
    for record in records:
        between.put(record)
    between.put(None)
    taker.join()
    assert taken == len(records)


def rows(scale: float) -> Iterator[Row]:
    """Measure with `scale` times the usual number of records, by the time of the processor."""
    count = int(600_000 * scale)
    records = [ps.Record(n, channel="c", seq=n) for n in range(count)]
    measured = functools.partial(medians, clock=time.process_time)
    yield per_record(
        "a generator as fast as it can, fused",
        "a loop that takes lists of it, and counts",
        measured(lambda: through(records, generated=True), lambda: collected(records)),
        count,
    )
    steps = (first, second, third)
    yield per_record(
        "3 fused steps that do nothing",
        "a loop with try, lists and the same counts",
        measured(lambda: through(records, *steps), lambda: loop(records, *steps)),
        count,
    )
    few = records[: count // 2]
    yield per_record(
        "3 fused steps that change records",
        "a bare loop over the same calls",
        measured(lambda: through(few, *(changed,) * 3), lambda: bare(few, *(changed,) * 3)),
        len(few),
    )
    for kib in (256, 1024):
        arrays = [numpy.zeros(kib * 512, "uint16") for _ in range(8)]
        frames = [ps.Record(arrays[n % 8], channel="c", seq=n) for n in range(max(1024, int(2**20 / kib * scale)))]
        seconds = measured(
            functools.partial(through, frames, *(changed,) * 3), functools.partial(bare, frames, *(changed,) * 3)
        )
        name = f"3 fused steps over arrays of {kib} KiB"
        yield per_record(name, "a bare loop record by record", seconds, len(frames))
    single = records[: count // 6]
    seconds = measured(lambda: singles_over_edge(single), lambda: singles_over_queue(single, queue.Queue(1024)))
    yield per_record("an edge, records one by one", "queue.Queue(1024)", seconds, len(single))
    seconds = measured(lambda: over_edge(lists_of(records)), lambda: over_queue(lists_of(records), queue.SimpleQueue()))
    yield per_record(
        f"an edge, lists of {LIST}",
        "queue.SimpleQueue, unbounded, the same lists",
        seconds,
        count,
    )

    def fresh() -> Iterator[list[ps.Record]]:
        for start in range(0, count, LIST):
            yield [ps.Record(n, channel="c", seq=n) for n in range(start, start + LIST)]

    seconds = measured(lambda: over_edge(fresh()), lambda: over_queue(fresh(), queue.SimpleQueue()))
    name = f"an edge, lists of {LIST}, making the records included"
    yield per_record(name, "queue.SimpleQueue, unbounded, the same lists", seconds, count)
    seconds = measured(
        lambda: through(records, ps.edge(capacity=1024)),
        lambda: over_queue(lists_of(records), queue.Queue(1024 // LIST)),
    )
    yield per_record(
        "source, edge of 1024, store: a whole run", f"queue.Queue({1024 // LIST}), lists of {LIST}", seconds, count
    )
