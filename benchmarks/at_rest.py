"""What starts and waits: a run of one record, a handler, and sources that give nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence

from measure import TURNS, Row, at_most

import penstock as ps
from penstock.builtin.push import PushSource

SOURCES = 256
WATCHED_S = 3.0


def processor_ms(work: Callable[[], object]) -> float:
    """Return the time of the processor that work takes, in all threads."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def one_record() -> None:
    """Start a run, lead one record through it, and end it. The plugins are looked for as in any program."""
    assert ps.Pipeline(ps.source([1]) >> ps.store("null")).run().stored == 1


def one_put() -> None:
    """The same for a handler."""
    with ps.DataHandler("memory") as handler:
        handler.put({"time": 0}, 1)


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


def idle_percent(kind: type) -> float:
    """Run sources that give nothing; return what part of a core they take."""
    pipeline = ps.Pipeline(*(ps.source(kind(), name=f"s{number}") >> ps.store("null") for number in range(SOURCES)))
    with pipeline.start() as run:
        run.wait(1.0)
        began, began_cpu = time.perf_counter(), time.process_time()
        run.wait(WATCHED_S)
        return (time.process_time() - began_cpu) / (time.perf_counter() - began) * 100


def rows(scale: float) -> Iterator[Row]:
    """Measure."""
    for name, work, most in (("a run of one record", one_record, 3.0), ("a DataHandler of one record", one_put, 6.0)):
        work()  # plugins are looked for once in a process
        figure = statistics.median(processor_ms(work) for _ in range(max(TURNS, int(30 * scale))))
        yield at_most(f"{name}: processor time", figure, most, "ms")
    turns = max(1, int(TURNS * scale))
    figure = statistics.median(idle_percent(PushSource) for _ in range(turns))
    reason = "the figure grows with the load of the machine: waking a thread costs more with cold caches"
    yield at_most(f"{SOURCES} idle sources that can be woken", figure, 3.0, "%", reason=reason)
    figure = statistics.median(idle_percent(Silent) for _ in range(turns))
    yield Row(
        name=f"{SOURCES} idle sources that cannot be woken",
        reference="nothing",
        unit="%",
        figure=figure,
        reference_figure=0.0,
        ratio=0.0,
    )
