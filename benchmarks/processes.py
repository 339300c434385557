"""What `place="process"` gives, and what it costs: cores for Python code, frames and packets there and back."""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import at_process
import numpy
from measure import TURNS, Row, Turns, per_record

import penstock as ps

HERE = str(Path(__file__).parent)


def through(records: Sequence[ps.Record], function: Any, workers: int) -> float:
    """Run records through this many processes; return the seconds from the first read, when all are ready."""
    times: list[float] = []

    def given() -> Iterator[ps.Record]:
        times.append(time.perf_counter())
        yield from records

    def note(record: ps.Record) -> None:
        times.append(time.perf_counter())

    step = ps.processor(function, place="process", workers=workers)
    report = ps.Pipeline(ps.source(given()) >> step >> note).run()
    assert report.balanced, report
    assert len(times) == len(records) + 1
    return times[-1] - times[0]


def pool(items: Sequence[Any], function: Callable[[Any], Any], workers: int, chunk: int) -> float:
    """Do the same with multiprocessing.Pool.imap, which keeps the order, too."""
    with multiprocessing.get_context("spawn").Pool(workers) as workers_pool:
        workers_pool.map(function, items[:workers], chunksize=1)  # until all are ready
        start = time.perf_counter()
        for _ in workers_pool.imap(function, items, chunksize=chunk):
            pass
        return time.perf_counter() - start


def bare(count: int, processes: int) -> float:
    """Burn in interpreters that have nothing to do with each other: what this machine gives."""
    code = (
        f"import sys; sys.path.insert(0, {HERE!r}); import at_process; print(flush=True); sys.stdin.readline(); "
        f"at_process.burn_for({count // processes})"
    )
    pipe = subprocess.PIPE
    children = [subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) for _ in range(processes)]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    start = time.perf_counter()
    for child in children:
        child.communicate(b"\n")
    return time.perf_counter() - start


def rows(scale: float) -> list[Row | str]:
    """Measure with `scale` times the usual number of records."""
    count = max(100, int(400 * scale))
    numbers = [ps.Record(number, channel="c", seq=number) for number in range(count)]
    one, two, bare_one, bare_two = [], [], [], []
    for _ in range(TURNS):
        one.append(through(numbers, at_process.burn, 1))
        two.append(through(numbers, at_process.burn, 2))
        bare_one.append(bare(count, 1))
        bare_two.append(bare(count, 2))
    found: list[Row | str] = [
        _row("Python code that needs a core, 2 processes", "the same in 1 process", two, one, count),
        f"two bare interpreters side by side did {median(bare_one) / median(bare_two):.2f} x the work of one",
    ]
    frame = numpy.zeros((1080, 1920, 3), "uint8")
    count = max(50, int(200 * scale))
    frames = [ps.Record(frame, channel="c", seq=number) for number in range(count)]
    ours, theirs = [], []
    for _ in range(TURNS):
        ours.append(through(frames, at_process.negative, 2))
        theirs.append(pool([frame] * count, at_process.negative_array, 2, 1))
    name = "1080p frames to 2 processes and changed back"
    found.append(_row(name, "multiprocessing.Pool(2).imap", ours, theirs, count))
    count = max(1000, int(100_000 * scale))
    gc.collect()
    payloads = [number.to_bytes(8, "little") * 128 for number in range(count)]
    packets = [ps.Record(payload, channel="c", seq=number) for number, payload in enumerate(payloads)]
    gc.freeze()  # what is made before is none of the run's garbage
    ours, theirs, of_records = [], [], []
    for _ in range(TURNS):
        ours.append(through(packets, at_process.length, 2))
        theirs.append(pool(payloads, at_process.length_of, 2, 256))
        of_records.append(pool(packets, at_process.length, 2, 256))
    gc.unfreeze()
    name = "1 KiB packets to 2 processes, a number back"
    reference = "multiprocessing.Pool(2).imap over the bare bytes, chunks of 256"
    found.append(_row(name, reference, ours, theirs, count))
    reference = "multiprocessing.Pool(2).imap over the same records, chunks of 256, records back"
    found.append(_row("1 KiB packets to 2 processes, beside records in the pool", reference, ours, of_records, count))
    return found


def _row(name: str, reference: str, ours: Sequence[float], theirs: Sequence[float], count: int) -> Row:
    lost = "0; what a worker that dies had not finished is done again (the pool hangs)"
    return per_record(name, reference, Turns(ours, theirs), count, lost=lost)
