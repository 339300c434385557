"""Channels in shared memory beside ezmsg and multiprocessing.Queue, and shared arrays beside numpy.copyto.

Where several processes work at once, figures are medians of the turns: the best one depends on who got a processor.
"""

from __future__ import annotations

import importlib.metadata
import logging
import multiprocessing
import secrets
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import attrs
import numpy as np
from measure import TURNS, Row, medians, per_record

from penstock.errors import EndOfSource
from penstock.record import Record
from penstock_shm import SharedMemoryArray, ShmSource, ShmStore

FRAME = (1080, 1920, 3)
SMALL = b"x" * 1024
LIST = 100
"""How many records a list has: what a lane hands to a store when records come fast."""
SPAWN = multiprocessing.get_context("spawn")


@attrs.frozen
class Seen:
    """When each record was sent and when it came, in ns of the monotonic clock."""

    sent: list[int]
    came: list[int]

    @property
    def rate(self) -> float:
        """Records per second, from the first that came to the last."""
        return (len(self.came) - 1) / (self.came[-1] - self.came[0]) * 1e9

    def delay_ms(self, part: float) -> float:
        """How long this part of the records took at most: 0.5 is the median."""
        delays = sorted(came - sent for sent, came in zip(self.sent, self.came, strict=True))
        return delays[min(int(len(delays) * part), len(delays) - 1)] / 1e6


def give(channel: str, data: Any, count: int, at_once: int, pause_s: float) -> None:
    """Write records in lists of `at_once`, one list each `pause_s` seconds."""
    store = ShmStore(channel)
    store.open()
    due = time.monotonic()
    for start in range(0, count, at_once):
        if pause_s:
            due += pause_s
            time.sleep(max(0.0, due - time.monotonic()))
        store.write(
            [Record(data, channel="c", seq=n, time_ns=time.monotonic_ns()) for n in range(start, start + at_once)]
        )
    store.close()


def relay(here: str, there: str, pipe: Connection) -> None:
    """Pass on what comes."""
    source, store = ShmSource(here, until_end=True), ShmStore(there)
    source.open()
    store.open()
    pipe.send("ready")
    try:
        while True:
            store.write(source.read(1000, 10.0))
    except EndOfSource:
        pass
    store.close()
    source.close()


def channel(data: Any, count: int, at_once: int = 1, pause_s: float = 0.0, *, relayed: bool = False) -> Seen:
    """Send from a process of its own, through another one if relayed, to this one."""
    names = [f"bench {secrets.token_hex(4)}" for _ in range(2 if relayed else 1)]
    source = ShmSource(names[-1], until_end=True)
    source.open()
    others = []
    if relayed:
        here, there = SPAWN.Pipe()
        others.append(SPAWN.Process(target=relay, args=(*names, there)))
        others[-1].start()
        here.recv()
    others.append(SPAWN.Process(target=give, args=(names[0], data, count, at_once, pause_s)))
    others[-1].start()
    seen = Seen([], [])
    try:
        while True:
            records = source.read(1000, 10.0)
            now = time.monotonic_ns()
            for record in records:
                assert record.seq == len(seen.sent), "one was lost"
                seen.sent.append(record.time_ns)
                seen.came.append(now)
    except EndOfSource:
        pass
    source.close()
    for other in others:
        other.join()
    assert len(seen.came) == count
    return seen


def put(queue: Any, data: Any, count: int, at_once: int) -> None:
    """Put records, singly or in lists."""
    for start in range(0, count, at_once):
        made = [Record(data, channel="c", seq=n, time_ns=time.monotonic_ns()) for n in range(start, start + at_once)]
        queue.put(made[0] if at_once == 1 else made)


def through_queue(data: Any, count: int, at_once: int = 1) -> Seen:
    """Send through a multiprocessing.Queue, from a process of its own to this one."""
    queue = SPAWN.Queue(1000)
    other = SPAWN.Process(target=put, args=(queue, data, count, at_once))
    other.start()
    seen = Seen([], [])
    for _ in range(0, count, at_once):
        item = queue.get()
        now = time.monotonic_ns()
        for record in item if at_once > 1 else (item,):
            assert record.seq == len(seen.sent), "one was lost"
            seen.sent.append(record.time_ns)
            seen.came.append(now)
    other.join()
    queue.close()
    queue.join_thread()
    return seen


def give_pipe(there: Connection, data: Any, count: int, pause_s: float) -> None:
    """Write the bytes of a frame, and the time before them, one frame each `pause_s` seconds."""
    due = time.monotonic()
    for _ in range(count):
        if pause_s:
            due += pause_s
            time.sleep(max(0.0, due - time.monotonic()))
        there.send(time.monotonic_ns())
        there.send_bytes(data.ravel())


def relay_pipe(here: Connection, there: Connection, count: int) -> None:
    """Pass on what comes."""
    buffer = bytearray(int(np.prod(FRAME)))
    for _ in range(count):
        sent = here.recv()
        here.recv_bytes_into(buffer)
        there.send(sent)
        there.send_bytes(buffer)


def through_pipes(data: Any, count: int, pause_s: float) -> Seen:
    """Hand the same bytes over by pipes, from a process through another one to this one."""
    (here, relayed), (relaying, given) = SPAWN.Pipe(duplex=False), SPAWN.Pipe(duplex=False)
    others = [
        SPAWN.Process(target=relay_pipe, args=(relaying, relayed, count)),
        SPAWN.Process(target=give_pipe, args=(given, data, count, pause_s)),
    ]
    for other in others:
        other.start()
    seen, buffer = Seen([], []), bytearray(data.nbytes)
    for _ in range(count):
        seen.sent.append(here.recv())
        here.recv_bytes_into(buffer)
        seen.came.append(time.monotonic_ns())
    for other in others:
        other.join()
    for end in (here, relayed, relaying, given):
        end.close()
    return seen


def taken(ours: Callable[[], Seen], theirs: Callable[[], Seen]) -> tuple[list[Seen], list[Seen]]:
    """Measure both by turns."""
    both: tuple[list[Seen], list[Seen]] = ([], [])
    for _ in range(TURNS):
        both[0].append(ours())
        both[1].append(theirs())
    return both


def rates(name: str, reference: str, both: tuple[list[Seen], list[Seen]]) -> Row:
    """Return a row of rates."""
    ours, theirs = ([seen.rate for seen in side] for side in both)
    return Row(name=name, reference=reference, unit="/s", ours=ours, theirs=theirs)


def delays(name: str, reference: str, both: tuple[list[Seen], list[Seen]], part: float) -> Row:
    """Return a row of how long this part of the records took."""
    ours, theirs = ([seen.delay_ms(part) for seen in turns] for turns in both)
    return Row(name=name, reference=reference, unit="ms", ours=ours, theirs=theirs)


def arrays(scale: float) -> Iterator[Row]:
    """Copy whole frames into a shared array and out of it: new ones, as from a camera, and one that is in cache."""
    frames = list(np.random.default_rng(0).integers(0, 255, (8, *FRAME), np.uint8))
    own = np.empty_like(frames[0])
    array = SharedMemoryArray.create_array(f"bench {secrets.token_hex(4)}", own)
    turns = max(5, int(30 * scale))

    def into(given: list[Any], step: Callable[[Any], object]) -> Callable[[], None]:
        def work() -> None:
            for frame in given:
                step(frame)

        return work

    def plain(frame: Any) -> None:
        np.copyto(own, frame)

    same = frames[:1] * 8
    for name, given, ours in (
        ("new frames into a shared array", frames, lambda frame: array.write_data((0,), frame)),
        ("one frame into a shared array", same, lambda frame: array.write_data((0,), frame)),
        ("a frame out of a shared array", same, lambda _: array.read_data((0,))),
    ):
        seconds = medians(into(given, ours), into(given, plain), turns)
        yield per_record(name, "numpy.copyto", seconds, len(given))
    array.destroy()


def rows(scale: float) -> Iterator[Row | str]:
    """Measure; without ezmsg only what is beside others."""
    small = max(5000, int(50_000 * scale) // LIST * LIST)  # several reads: the rate is that between two of them
    name, reference = "1 KiB between two processes", "multiprocessing.Queue"
    both = taken(lambda: channel(SMALL, small, LIST), lambda: through_queue(SMALL, small))
    yield rates(f"{name}, in lists, beside single puts", f"{reference}, a put for each", both)
    both = taken(lambda: channel(SMALL, small), lambda: through_queue(SMALL, small))
    yield rates(f"{name}, both one at a time", reference, both)
    both = taken(lambda: channel(SMALL, small, LIST), lambda: through_queue(SMALL, small, LIST))
    yield rates(f"{name}, both in lists of {LIST}", reference, both)
    yield from arrays(scale)
    frame = np.random.default_rng(0).integers(0, 255, FRAME, np.uint8)
    frames, pause_s = "1080p (6.2 MB) through three processes", 1 / 30
    fast, slow = max(60, int(800 * scale)), max(60, int(150 * scale))
    reference = "multiprocessing.Pipe, the bytes of the frame"
    both = taken(lambda: channel(frame, fast, relayed=True), lambda: through_pipes(frame, fast, 0.0))
    yield delays(f"{frames}, as fast as they go: p99", reference, both, 0.99)
    both = taken(lambda: channel(frame, slow, 1, pause_s, relayed=True), lambda: through_pipes(frame, slow, pause_s))
    yield delays(f"{frames}, 30 a second: p50", reference, both, 0.5)
    yield delays(f"{frames}, 30 a second: p99, the first among them", reference, both, 0.99)
    try:
        peer = f"ezmsg {importlib.metadata.version('ezmsg')}"
    except importlib.metadata.PackageNotFoundError:
        yield "ezmsg is not installed: it is not measured"
        return
    import between_ezmsg  # it needs ezmsg

    def ezmsg(*arguments: Any, **how: bool) -> Seen:
        return Seen(*between_ezmsg.flow(*arguments, **how))

    logging.disable(logging.INFO)
    few = small // 5
    both = taken(lambda: channel(SMALL, small, LIST), lambda: ezmsg(SMALL, few))
    yield rates(f"{name}, in lists, beside ezmsg", f"{peer}, a message for each", both)
    both = taken(lambda: channel(SMALL, few), lambda: ezmsg(SMALL, few))
    yield rates(f"{name}, both one at a time, beside ezmsg", peer, both)
    both = taken(lambda: channel(frame, fast, relayed=True), lambda: ezmsg(frame, fast, relayed=True))
    yield rates(f"{frames}, as fast as they go", peer, both)
    logging.disable(logging.NOTSET)
