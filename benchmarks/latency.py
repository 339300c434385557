"""How late a record of a slow iterator is handed over, fused and over an edge, beside a queue by hand."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

from measure import TURNS, Row

import penstock as ps
from penstock.plugins.current import installed_plugins

EVERY_S = 0.001


def clock(count: int) -> Iterator[float]:
    """Give the time, a thousand times a second."""
    due = time.perf_counter()
    for _ in range(count):
        due += EVERY_S
        time.sleep(max(0.0, due - time.perf_counter()))
        yield time.perf_counter()


class Late:
    """Note how late each record is, in milliseconds; in a thread of its own if it blocks."""

    def __init__(self, *, blocks: bool) -> None:
        self.blocks = blocks
        self.late_ms: list[float] = []

    def open(self) -> None:
        """Do nothing."""

    def write(self, records: list[ps.Record]) -> None:
        """Note it."""
        now = time.perf_counter()
        self.late_ms += [(now - record.data) * 1000 for record in records]

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def in_run(count: int, *, edge: bool) -> list[float]:
    """Lead them through a run; return how late they were, in order of size."""
    store = Late(blocks=edge)
    report = ps.Pipeline(ps.source(clock(count)) >> ps.store(store)).run(plugins=installed_plugins())
    assert report.stored == count
    return sorted(store.late_ms)


def by_hand(count: int) -> list[float]:
    """Put them into a queue, and take them in another thread."""
    between: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    late: list[float] = []

    def take() -> None:
        while (item := between.get()) is not None:
            late.append((time.perf_counter() - item) * 1000)

    taker = threading.Thread(target=take)
    taker.start()
    for item in clock(count):
        between.put(item)
    between.put(None)
    taker.join()
    return sorted(late)


def rows(scale: float) -> Iterator[Row]:
    """Measure: medians of the turns, which alternate."""
    count = max(200, int(1000 * scale))
    fused, edge, hand = [], [], []
    for _ in range(TURNS):
        fused.append(in_run(count, edge=False))
        edge.append(in_run(count, edge=True))
        hand.append(by_hand(count))
    for name, turns in (("fused", fused), ("over an edge", edge)):
        for label, part in (("p50", 0.5), ("p99", 0.99)):
            ours, theirs = ([turn[int(count * part)] for turn in each] for each in (turns, hand))
            name_of = f"a generator, 1,000/s, {name}: {label}"
            reference = "queue.SimpleQueue and a thread"
            yield Row(name=name_of, reference=reference, unit="ms", ours=ours, theirs=theirs)
