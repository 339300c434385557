"""DataHandler beside ExEngine's, and beside the least that could do: a queue, a thread and a dict.

    python benchmarks/bench_handler.py [--exengine PYTHON] [--rounds 7] [--json FILE]

PYTHON is an interpreter that has exengine (for instance of a virtual environment of its own); without it, or where
this one has it, the row is measured in this one, or left out and said to be. Each measurement is a process of its
own; the sides take turns, and the median counts. The time is from the first `put` until everything is stored.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import queue
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy

WORKS = {
    "memory": (20_000, 16, "16 B arrays into a dict; nothing survives the process, nothing is lost"),
    "processed": (20_000, 16, "the same through a function; nothing survives the process, nothing is lost"),
    "sqlite": (3_000, 1024, "1 KiB arrays into SQLite; each is committed and survives a power cut when it is stored"),
}
SIDES = ("penstock", "exengine", "queue")


def same(coords: Any, data: Any, metadata: Any) -> Any:
    """Process nothing."""
    return coords, data, metadata


class Shelf:
    """Where both keep their records: a dict, or a table with one commit for each call."""

    def __init__(self, work: str, directory: Path) -> None:
        self.kept: dict[Any, Any] = {}
        self.database: sqlite3.Connection | None = None
        if work == "sqlite":
            self.database = sqlite3.connect(directory / "records.db", check_same_thread=False, isolation_level=None)
            self.database.execute("PRAGMA journal_mode=WAL")
            self.database.execute("PRAGMA synchronous=FULL")
            self.database.execute("CREATE TABLE records (time INTEGER PRIMARY KEY, data BLOB, metadata TEXT)")

    def keep(self, rows: list[tuple[Any, Any, Any]]) -> None:
        """Keep rows of (coords, data, metadata); they can be read when this returns."""
        if self.database is None:
            for coords, data, metadata in rows:
                self.kept[coords] = (data, metadata)
            return
        self.database.execute("BEGIN")
        self.database.executemany(
            "INSERT INTO records VALUES (?, ?, ?)",
            ((coords["time"], data.tobytes(), json.dumps(dict(metadata))) for coords, data, metadata in rows),
        )
        self.database.execute("COMMIT")

    def count(self) -> int:
        """Return how many it has."""
        if self.database is None:
            return len(self.kept)
        return int(self.database.execute("SELECT count(*) FROM records").fetchone()[0])


def penstock(shelf: Shelf, process: Any) -> tuple[Callable[[int], Any], Callable[..., Any], Callable[[], Any]]:
    """Return what makes coordinates, puts and finishes, with penstock."""
    import penstock as ps
    from penstock.plugins.current import installed_plugins

    class Store:
        def open(self) -> None: ...

        def write(self, records: Any) -> None:
            shelf.keep([(record.coords, record.data, record.metadata) for record in records])

        def sync(self) -> None: ...

        def close(self) -> None: ...

        def key_of(self, record: Any) -> str:
            return str(record.seq)

        def get(self, key: str) -> Any:
            raise NotImplementedError

        def keys(self, **coords: Any) -> Iterator[str]:
            return iter(())

        def __contains__(self, key: object) -> bool:
            return False

        def __len__(self) -> int:
            return 0

    handler = ps.DataHandler(Store(), process, plugins=installed_plugins())

    def finish() -> None:
        report = handler.finish()
        handler.close()
        assert report.ok, report

    return lambda number: ps.DataCoordinates(time=number), handler.put, finish


def exengine(shelf: Shelf, process: Any) -> tuple[Callable[[int], Any], Callable[..., Any], Callable[[], Any]]:
    """Return the same with ExEngine, its engine included."""
    from exengine import ExecutionEngine  # type: ignore[import-not-found]  # only where it is measured
    from exengine.kernel.data_coords import DataCoordinates  # type: ignore[import-not-found]  # as above
    from exengine.kernel.data_handler import DataHandler  # type: ignore[import-not-found]  # as above

    class Storage:
        def put(self, coords: Any, data: Any, metadata: Any) -> None:
            shelf.keep([(coords, data, metadata)])

        def finish(self) -> None: ...

    engine = ExecutionEngine()
    handler = DataHandler(Storage(), process)

    def finish() -> None:
        handler.finish()
        handler.await_completion()
        threading.Thread(target=engine.shutdown, daemon=True).start()

    return (
        lambda number: DataCoordinates(time=number),
        lambda coords, data, metadata: handler.put(coords, data, metadata, None),
        finish,
    )


def bare_queue(shelf: Shelf, process: Any) -> tuple[Callable[[int], Any], Callable[..., Any], Callable[[], Any]]:
    """Return the least that could do: it has no bound, no errors, no events, no reading back."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def work() -> None:
        while (item := waiting.get()) is not None:
            shelf.keep([process(*item) if process else item])

    thread = threading.Thread(target=work)
    thread.start()

    def finish() -> None:
        waiting.put(None)
        thread.join()

    return (
        lambda number: {"time": number} if shelf.database else number,
        lambda coords, data, metadata: waiting.put((coords, data, metadata)),
        finish,
    )


def measure(side: str, work: str) -> tuple[float, float]:
    """Let one side do one work; return the seconds that passed, and those of the processor."""
    count, size_bytes, _ = WORKS[work]
    make = {"penstock": penstock, "exengine": exengine, "queue": bare_queue}[side]
    image = numpy.zeros(size_bytes // 2, dtype="uint16")
    with tempfile.TemporaryDirectory() as directory:
        shelf = Shelf(work, Path(directory))
        coords_of, put, finish = make(shelf, same if work == "processed" else None)
        wanted = [coords_of(number) for number in range(count)]
        began, began_cpu = time.perf_counter(), time.process_time()
        for coords in wanted:
            put(coords, image, {"exposure": 1})
        finish()
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        assert shelf.count() == count, f"{side} lost {count - shelf.count()} records"
        if shelf.database is not None:
            shelf.database.close()
    return took_s, cpu_s


def main() -> None:
    """Measure all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--exengine", default=sys.executable if importlib.util.find_spec("exengine") else "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    pythons = {"penstock": sys.executable, "exengine": arguments.exengine, "queue": sys.executable}
    rows = []
    for work, (count, _, what) in WORKS.items():
        found: dict[str, list[float]] = {side: [] for side in SIDES if pythons[side]}
        for _ in range(arguments.rounds):
            for side, rates in found.items():
                command = [pythons[side], __file__, "--measure", side, work]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                rates.append(count / json.loads(done.stdout)[0])
        rate = {side: statistics.median(rates) for side, rates in found.items()}
        ratio = {side: rate["penstock"] / rate[side] for side in rate if side != "penstock"}
        rows.append({"work": work, "what": what, "records": count, "rate": rate, "penstock_over": ratio})
        print(f"{work}: {what}")
        for side in SIDES:
            if side not in rate:
                print(f"  {side:<9} not measured: give --exengine PYTHON, an interpreter that has it")
            else:
                over = f"penstock is {ratio[side]:.2f} x" if side in ratio else ""
                print(f"  {side:<9} {rate[side]:>10,.0f} records/s  {over}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
