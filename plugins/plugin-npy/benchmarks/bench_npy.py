"""Files, stacks and logs beside bare loops and beside peers, by turns, so that all see the same machine.

`python bench_npy.py [ROUNDS] [--only NAME] [--processor]`, in an environment with penstock-npy.
PENSTOCK_PEERS is the interpreter of an environment with `acquire-zarr==0.10.*` and `ataraxis-data-
structures==7.2.*`; without it, they are left out. Prints one line for each figure: the medians of the rounds,
their ratio, the goal, and how durable what was measured is. With --processor files and stacks are judged by
the processor's time of this process, on a machine that has other work to do. Writes below the working
directory, about 3 GB.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from penstock.record import Record
from penstock_npy import (
    DataLogger,
    LogArchiveReader,
    LogPackage,
    NpyStackStore,
    NpyStore,
    compress_npy_logs,
)
from penstock_npy.entry_files import entry_array, entry_stem
from penstock_npy.npz_file import NpzWriter, bytes_header

PEERS = os.environ.get("PENSTOCK_PEERS", "")
AT_ONCE = 64
CLOCK: list[Callable[[], float]] = [time.perf_counter]
Timed = Callable[[Path], float]


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that work takes."""
    began_s = CLOCK[0]()
    work()
    return CLOCK[0]() - began_s


def by_turns(rounds: int, *works: Timed) -> list[float]:
    """Do each in turn, in a fresh directory each; return the medians of their seconds."""
    found: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, seconds in zip(works, found, strict=True):
            directory = Path(tempfile.mkdtemp(prefix="bench-", dir="."))
            try:
                seconds.append(work(directory))
            finally:
                shutil.rmtree(directory)
                os.sync()  # what one has left to the disk is not the next one's burden
    return [statistics.median(seconds) for seconds in found]


def say(
    name: str,
    unit: str,
    amount: float,
    ours: float,
    theirs: float,
    goal: str,
    durable: str,
) -> None:
    """Print a line."""
    print(
        f"{name:44} {amount / ours:12,.0f} {unit} beside {amount / theirs:12,.0f}: {theirs / ours:6.2f} x, "
        f"goal {goal}; {durable}",
        flush=True,
    )


def peer(*arguments: object) -> Timed:
    """Return what runs an action of npy_peers.py in a directory."""
    script = Path(__file__).with_name("npy_peers.py")

    def work(directory: Path) -> float:
        action, *others = map(str, arguments)
        done = subprocess.run(
            [PEERS, script, action, str(directory / "peer"), *others],
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout.splitlines()[-1])

    return work


def records(count: int, shape: tuple[int, ...], dtype: str) -> list[Record]:
    """Return records whose arrays are few, so that they do not fill the memory."""
    frames = np.random.default_rng(0).integers(0, 200, (8, *shape), dtype)
    return [Record(frames[n % 8], channel="camera", seq=n, time_ns=n) for n in range(count)]


def write(store: NpyStore | NpyStackStore, these: list[Record], *, sync: bool) -> float:
    """Write records; with `sync` until they are durable, else until the store has them."""
    store.open()
    began_s = CLOCK[0]()
    for first in range(0, len(these), AT_ONCE):
        store.write(these[first : first + AT_ONCE])
    if sync:
        store.sync()
    took_s = CLOCK[0]() - began_s
    with contextlib.suppress(OSError):
        store.close()
    return took_s


def files(rounds: int) -> None:
    """Frames of 2 MB as files."""
    these = records(100, (1000, 1000), "uint16")

    def ours(directory: Path, *, sync: bool) -> float:
        return write(NpyStore(path="{{ '%06d' % seq }}.npy", root=directory), these, sync=sync)

    def bare(directory: Path) -> float:
        return timed(lambda: [np.save(directory / f"{record.seq:06d}.npy", record.data) for record in these])

    def careful(directory: Path) -> float:
        def work() -> None:
            for record in these:
                path = directory / f"{record.seq:06d}.npy"
                with path.with_suffix(".tmp").open("wb") as file:
                    np.save(file, record.data)
                    file.flush()
                    os.fsync(file.fileno())
                path.with_suffix(".tmp").rename(path)

        return timed(work)

    ours_s, bare_s = by_turns(rounds, lambda directory: ours(directory, sync=False), bare)
    say(
        "2 MB frames, beside numpy.save",
        "/s",
        100,
        ours_s,
        bare_s,
        ">= 0.9",
        "not durable",
    )
    ours_s, careful_s = by_turns(rounds, lambda directory: ours(directory, sync=True), careful)
    say(
        "2 MB frames, beside fsync and rename",
        "/s",
        100,
        ours_s,
        careful_s,
        ">= 2",
        "durable, in one group",
    )


def stacks(rounds: int) -> None:
    """Small and middling frames as stacks."""
    for side, count, goal in ((64, 16_384, ">= 20"), (512, 1024, ">= 0.8")):
        these = records(count, (side, side), "uint16")

        def ours(directory: Path, these: list[Record] = these) -> float:
            return write(NpyStackStore(path="camera.npy", root=directory), these, sync=False)

        def bare(directory: Path, these: list[Record] = these, side: int = side) -> float:
            if side == 64:
                return timed(lambda: [np.save(directory / f"{record.seq:06d}.npy", record.data) for record in these])
            with (directory / "camera").open("wb", buffering=0) as file:
                return timed(lambda: [file.write(record.data) for record in these])

        beside = "a file each" if side == 64 else "file.write"
        works: list[Timed] = [
            ours,
            bare,
            *([peer("stream", count, side)] if PEERS and CLOCK[0] is time.perf_counter else []),
        ]
        ours_s, bare_s, *zarr_s = by_turns(rounds, *works)
        say(
            f"{side} x {side} uint16, beside {beside}",
            "/s",
            count,
            ours_s,
            bare_s,
            goal,
            "not durable",
        )
        for peer_s in zarr_s:
            say(
                f"{side} x {side} uint16, beside acquire-zarr",
                "/s",
                count,
                ours_s,
                peer_s,
                ">= 1.5",
                "not durable",
            )


def _put(queue, barrier, count: int, size: int, source: int) -> None:  # noqa: ANN001 - a LoggerQueue
    data = np.zeros(size, np.uint8)
    barrier.wait()
    for number in range(count):
        queue.put(LogPackage(source, number, data))


def log(directory: Path, count: int, size: int, layout: str = "log") -> float:
    """Log from two processes, until all is on the disk."""
    logger = DataLogger(directory, "bench", layout=layout)  # type: ignore[arg-type]
    logger.start()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    producers = [context.Process(target=_put, args=(logger.input_queue, barrier, count, size, n)) for n in (1, 2)]
    for producer in producers:
        producer.start()
    barrier.wait()
    began_s = time.perf_counter()
    for producer in producers:
        producer.join()
    logger.stop()
    return time.perf_counter() - began_s


def logs(rounds: int) -> None:
    """Entries from two processes."""
    for size, count, theirs, goal in (
        (1024, 50_000, 2000, ">= 30"),
        (1 << 20, 200, 100, ">= 1.5"),
    ):
        works: list[Timed] = [lambda directory, count=count, size=size: log(directory, count, size)]  # type: ignore[misc]
        ours_s, *peer_s = by_turns(rounds, *works, *([peer("log", theirs, size)] if PEERS else []))
        for each in peer_s or [float("nan")]:
            name = f"entries of {size >> 10} KiB, beside ataraxis"
            say(
                name,
                "/s",
                2 * count,
                ours_s,
                each * count / theirs,
                goal,
                "ours synced at stop, theirs not",
            )


def archives(rounds: int) -> None:
    """Gathering entries in archives, and reading one."""
    count = 5000

    def entries(directory: Path) -> Path:
        directory.mkdir(exist_ok=True)
        for number in range(count):
            np.save(
                directory / f"{entry_stem(1, number)}.npy",
                entry_array(1, number, bytes(1024)),
            )
        return directory

    def ours(directory: Path) -> float:
        entries(directory)
        return timed(lambda: compress_npy_logs(directory))

    def theirs(directory: Path) -> float:
        entries(directory / "peer")
        return peer("assemble")(directory)

    ours_s, *peer_s = by_turns(rounds, ours, *([theirs] if PEERS else []))
    for each in peer_s:
        say(
            "compressing files of 1 KiB, beside ataraxis",
            "/s",
            count,
            ours_s,
            each,
            ">= 2",
            "both verified; ours synced",
        )


def reader(rounds: int) -> None:
    """Opening an archive of 100,000 entries, and one entry."""
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir="."))
    path = directory / "1_log.npz"
    with path.open("wb") as file:
        writer = NpzWriter(file)
        for number in range(100_000):
            content = entry_array(1, number, bytes(256)).tobytes()
            writer.add(entry_stem(1, number), bytes_header(len(content)), content)
        writer.finish()
        writer.close()
    opening, one = [], []
    for turn in range(max(rounds, 5)):
        began_s = time.perf_counter()
        archive = LogArchiveReader(path)
        opening.append(time.perf_counter() - began_s)
        one.append(timed(lambda archive=archive, turn=turn: archive[turn * 7919 % 100_000]))  # type: ignore[misc]
        archive.close()
    shutil.rmtree(directory)
    print(
        f"opening 100,000 entries {max(opening) * 1e3:.2f} ms, goal <= 20; one entry {max(one) * 1e3:.3f} ms, goal <= 1"
    )


def memory(_: int) -> None:
    """The memory for compressing 2 GiB."""
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir="."))
    logger = DataLogger(directory, "bench", layout="log")
    data = bytes(1 << 20)
    with logger:
        for number in range(2048):
            logger.input_queue.put(LogPackage(1, number, data))
    took_s = timed(lambda: compress_npy_logs(logger.output_directory))
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"compressing 2 GiB in entries of 1 MiB: {peak_mib:.0f} MiB of memory, goal <= 200; {took_s:.1f} s")
    shutil.rmtree(directory)


def chosen() -> Iterator[tuple[Callable[[int], None], int]]:
    """Yield what the command line asks for."""
    sections = [memory, reader, files, stacks, logs, archives]
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--only", choices=[section.__name__ for section in sections])
    parser.add_argument("--processor", action="store_true")
    arguments = parser.parse_args()
    if arguments.processor:
        CLOCK[0] = time.process_time
        sections = [files, stacks]
    for section in sections:
        if arguments.only in (None, section.__name__):
            yield section, arguments.rounds


if __name__ == "__main__":
    print(
        f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, "
        f"Python {sys.version.split()[0]}, numpy {np.__version__}"
    )
    for section, rounds in chosen():
        section(rounds)
