"""A hop of a 1080p frame from one channel to the next, beside one copy of it, by the time of the processor."""

from __future__ import annotations

import itertools
import mmap
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from measure import Row, medians, time_of_one

from penstock.record import Record
from penstock_shm import ShmSource, ShmStore

FRAME = (1080, 1920, 3)
FRAMES = 8
"""Different frames, so that a copy reads from memory and not from the cache, as with a camera."""


class Hop:
    """A channel whose two ends are here, so that the time of both is counted."""

    def __init__(self) -> None:
        name = f"bench {secrets.token_hex(4)}"
        self.source, self.store = ShmSource(name), ShmStore(name)
        self.source.open()
        self.store.open()

    def __call__(self, record: Record) -> Record:
        """Send a record through the channel."""
        self.store.write([record])
        (received,) = self.source.read(1, 10.0)
        return received

    def close(self) -> None:
        """Close both ends."""
        self.store.close()
        self.source.close()


def shared() -> Any:
    """Return an array in memory that processes can share, as a bare hand-over would copy into."""
    array: Any = np.frombuffer(mmap.mmap(-1, int(np.prod(FRAME))), np.uint8).reshape(FRAME)
    array[...] = 0
    return array


def work(count: int, step: Callable[[int], object]) -> Callable[[], None]:
    """Return a function that does this with the numbers of `count` frames."""

    def run() -> None:
        for number in range(count):
            step(number % FRAMES)

    return run


def hop(name: str, count: int, step: Callable[[int], object], copy: Callable[[int], object]) -> Row:
    """Measure a step beside one copy of the same frame."""
    turns = medians(work(count, step), work(count, copy), clock=time.process_time)
    return time_of_one(name, "one copy of the frame into shared memory", turns, "ms", count)


def rows(scale: float) -> Iterator[Row]:
    """Measure."""
    count = max(FRAMES, int(64 * scale))
    frames: Sequence[Any] = list(np.random.default_rng(0).integers(0, 255, (FRAMES, *FRAME), np.uint8))
    places = itertools.cycle([shared() for _ in range(3)])  # a channel has about as many
    first, second = Hop(), Hop()

    def copy(number: int) -> None:
        np.copyto(next(places), frames[number])

    def new(number: int) -> Record:
        return first(Record(frames[number], channel="c", seq=number))

    received = [new(number) for number in range(FRAMES)]

    def pass_on(number: int) -> Record:
        return second(received[number].with_metadata(hops=2))

    def lend(number: int) -> Record:
        return first(Record(first.store.empty(FRAME), channel="c", seq=number))

    name = "1080p frame, a hop between processes"
    yield hop(f"{name}: received, passed on", count, pass_on, copy)
    yield hop(f"{name}: filled in the channel's memory", count, lend, copy)
    yield hop(f"{name}: new, one copy", count, new, copy)
    received.clear()
    for channel in (first, second):
        channel.close()
