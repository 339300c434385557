"""What starts and waits: a run of one record, a handler, and sources that give nothing."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence

from measure import TURNS, Row, medians, time_of_one

import penstock as ps
from penstock.builtin.push import PushSource

SOURCES = 256
WATCHED_S = 2.0


def one_record() -> None:
    """Start a run, lead one record through it, and end it. The plugins are looked for as in any program."""
    assert ps.Pipeline(ps.source([1]) >> ps.store("null")).run().stored == 1


def one_put() -> None:
    """The same for a handler."""
    with ps.DataHandler("memory") as handler:
        handler.put({"time": 0}, 1)


def by_hand() -> None:
    """Hand a value to a thread of its own."""
    between: queue.SimpleQueue[int] = queue.SimpleQueue()
    taker = threading.Thread(target=between.get)
    taker.start()
    between.put(1)
    taker.join()


class Silent:
    """A source that gives nothing, waits as long as it may, and cannot be woken."""

    def open(self) -> None:
        """Do nothing."""

    def read(self, max_records: int, timeout_s: float) -> Sequence[ps.Record]:
        """Wait."""
        time.sleep(timeout_s)
        return ()

    def close(self) -> None:
        """Do nothing."""


def part_of_a_core() -> float:
    """Watch for a while; return the processor time of this process in percent of one processor."""
    began, began_cpu = time.perf_counter(), time.process_time()
    threading.Event().wait(WATCHED_S)
    return (time.process_time() - began_cpu) / (time.perf_counter() - began) * 100


def by_hand_percent() -> float:
    """Let as many threads wait for a queue, with a look twice a second; return what part of a core they take."""
    ended = threading.Event()

    def wait() -> None:
        between: queue.SimpleQueue[int] = queue.SimpleQueue()
        while not ended.is_set():
            with contextlib.suppress(queue.Empty):
                between.get(timeout=0.5)

    waiting = [threading.Thread(target=wait) for _ in range(SOURCES)]
    for thread in waiting:
        thread.start()
    found = part_of_a_core()
    ended.set()
    for thread in waiting:
        thread.join()
    return found


def idle_percent(kind: type) -> float:
    """Run sources that give nothing; return what part of a core they take."""
    pipeline = ps.Pipeline(*(ps.source(kind(), name=f"s{number}") >> ps.store("null") for number in range(SOURCES)))
    with pipeline.start() as run:
        run.wait(1.0)
        return part_of_a_core()


def rows(scale: float) -> Iterator[Row]:
    """Measure; `scale` is the part of the usual turns, of which there are never less than seven."""
    turns = max(TURNS, int(30 * scale))
    for name, work in (("a run of one record", one_record), ("a DataHandler of one record", one_put)):
        work()  # plugins are looked for once in a process
        seconds = medians(work, by_hand, turns, clock=time.process_time)
        yield time_of_one(f"{name}: processor time", "a value handed to a thread by a queue", seconds, "ms")
    ours, theirs, silent = [], [], []
    for _ in range(TURNS):
        ours.append(idle_percent(PushSource))
        theirs.append(by_hand_percent())
        silent.append(idle_percent(Silent))
    reference = f"{SOURCES} threads at a queue, with a timeout of 0.5 s"
    name = f"{SOURCES} idle sources that can be woken"
    yield Row(name=name, reference=reference, unit="%", ours=ours, theirs=theirs)
    name = f"{SOURCES} idle sources that cannot be woken"
    yield Row(name=name, reference=reference, unit="%", ours=silent, theirs=theirs)
