"""Measure channels against multiprocessing.Queue, and shared arrays against numpy.copyto, side by side in one run.

`python bench_shm.py [--rounds N] [--json FILE]`. Each round measures every row once, in turn, so that whatever else the
machine does meets all of them; the median of the rounds is printed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import secrets
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from penstock.errors import EndOfSource
from penstock.record import Record
from penstock_shm import SharedMemoryArray, ShmSource, ShmStore

FRAME = (1080, 1920, 3)
SPAWN = multiprocessing.get_context("spawn")


def _small(number: int) -> Record:
    return Record(b"x" * 1024, channel="c", seq=number, time_ns=time.monotonic_ns())


def _read_channel(name: str, pipe: Connection) -> None:
    source = ShmSource(name, until_end=True)
    source.open()
    pipe.send("ready")
    count, first, delays = 0, 0.0, []
    try:
        while True:
            for record in source.read(1000, 10.0):
                first = first or time.perf_counter()
                count += 1
                delays.append(time.monotonic_ns() - record.time_ns)
    except EndOfSource:
        pass
    pipe.send((count, time.perf_counter() - first, delays))
    source.close()


def _read_queue(queue: Any, pipe: Connection) -> None:
    pipe.send("ready")
    count, first, delays = 0, 0.0, []
    while (item := queue.get()) is not None:
        first = first or time.perf_counter()
        for record in item:
            count += 1
            delays.append(time.monotonic_ns() - record.time_ns)
    pipe.send((count, time.perf_counter() - first, delays))


def _channel(make: Callable[[int], Record], count: int, batch: int, pause_s: float = 0.0) -> tuple[float, list[int]]:
    name = f"bench {secrets.token_hex(4)}"
    here, there = SPAWN.Pipe()
    reader = SPAWN.Process(target=_read_channel, args=(name, there))
    reader.start()
    here.recv()
    store = ShmStore(name)
    store.open()
    for start in range(0, count, batch):
        if pause_s:
            time.sleep(pause_s)
        store.write([make(number) for number in range(start, start + batch)])
    store.close()
    got, taken_s, delays = here.recv()
    reader.join()
    assert got == count
    return count / taken_s, delays


def _queue(make: Callable[[int], Record], count: int, batch: int, pause_s: float = 0.0) -> tuple[float, list[int]]:
    here, there = SPAWN.Pipe()
    queue = SPAWN.Queue(64)
    reader = SPAWN.Process(target=_read_queue, args=(queue, there))
    reader.start()
    here.recv()
    for start in range(0, count, batch):
        if pause_s:
            time.sleep(pause_s)
        queue.put([make(number) for number in range(start, start + batch)])
    queue.put(None)
    got, taken_s, delays = here.recv()
    reader.join()
    queue.close()
    queue.join_thread()
    assert got == count
    return count / taken_s, delays


def _array(rounds: int) -> dict[str, float]:
    frame = np.random.default_rng(0).integers(0, 255, FRAME, np.uint8)
    own = np.empty_like(frame)
    with SharedMemoryArray.create_array(f"bench {secrets.token_hex(4)}", frame) as array:

        def copy() -> None:
            np.copyto(own, frame)

        def write() -> None:
            array.write_data((0,), frame)

        def read() -> None:
            array.read_data((0,))

        times: dict[str, list[float]] = {"copyto": [], "write": [], "read": []}
        for _ in range(rounds):
            for name, step in (("copyto", copy), ("write", write), ("read", read)):
                start = time.perf_counter()
                step()
                times[name].append(time.perf_counter() - start)
        array.destroy()
    return {name: 1 / statistics.median(taken) for name, taken in times.items()}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Return, for each row, the median of what was measured for each contender, and shm's ratio to the other."""
    frame = np.random.default_rng(0).integers(0, 255, FRAME, np.uint8)

    def picture(number: int) -> Record:
        return Record(frame, channel="c", seq=number, time_ns=time.monotonic_ns())

    rows: dict[str, tuple[Callable[[int], Record], int, int, float]] = {
        "1 KiB records, one at a time, records/s": (_small, 20_000, 1, 0.0),
        "1 KiB records, 100 at a time, records/s": (_small, 60_000, 100, 0.0),
        "1080p frames (6.2 MB), frames/s": (picture, 300, 1, 0.0),
        "1080p at 30 frames/s": (picture, 60, 1, 1 / 30),
    }
    seen: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for row, (make, count, batch, pause_s) in rows.items():
            for contender, run in (("shm", _channel), ("Queue", _queue)):
                rate, delays = run(make, count, batch, pause_s)
                found = seen.setdefault(row, {})
                if not pause_s:
                    found.setdefault(contender, []).append(rate)
                delays_ms = sorted(d / 1e6 for d in delays)
                found.setdefault(f"{contender} p50 ms", []).append(delays_ms[len(delays_ms) // 2])
                found.setdefault(f"{contender} p99 ms", []).append(delays_ms[int(len(delays_ms) * 0.99)])
        for name, rate in _array(30).items():
            seen.setdefault("whole 1080p array, frames/s", {}).setdefault(name, []).append(rate)
    result = {row: {name: statistics.median(values) for name, values in found.items()} for row, found in seen.items()}
    for found in result.values():
        if "shm" in found:
            found["shm/Queue"] = found["shm"] / found["Queue"]
        if "copyto" in found:
            found["write/copyto"] = found["write"] / found["copyto"]
            found["read/copyto"] = found["read"] / found["copyto"]
    return result


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", default="")
    chosen = parser.parse_args()
    result = measure(chosen.rounds)
    for row, found in result.items():
        print(f"{row}\n    " + "  ".join(f"{name} {value:,.2f}" for name, value in found.items()))
    if chosen.json:
        with open(chosen.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
