"""What other processes do in the tests: `python peer.py FUNCTION ARGUMENT…`. They say lines, and are told lines."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time

import numpy as np

from penstock.errors import EndOfSource, PenstockError, SourceError, StoreError
from penstock.record import Record
from penstock_shm import SharedMemoryArray, ShmObjectStore, ShmSource, ShmStore
from penstock_shm.directory import locked_directory, path_of


def say(*what: object) -> None:
    print(*what, flush=True)


def listen() -> str:
    return sys.stdin.readline()


def frame(number: int, size: int) -> np.ndarray:
    """An array that shows if it is torn: all elements are the number."""
    return np.full(size, number, np.uint32)


def produce(channel_name: str, count: str, size: str, channel: str = "camera", options: str = "") -> None:
    """Write `count` records (for ever if 0) and close."""
    store = ShmStore(channel_name, exclusive="exclusive" in options)
    try:
        store.open()
    except PenstockError as error:
        say(type(error).__name__, error)
        return
    say("open")
    number = 0
    while not int(count) or number < int(count):
        store.write([Record(frame(number, int(size)), channel=channel, seq=number)])
        number += 1
    store.close()
    say("closed")


def consume(channel_name: str, say_every: str = "0", options: str = "until_end") -> None:
    """Read until the end, check every record, and print their number."""
    source = ShmSource(channel_name, until_end="until_end" in options, latest="latest" in options)
    source.open()
    say("open")
    got = torn = 0
    try:
        while True:
            for record in source.read(16, 5.0):
                torn += int((record.data != record.seq).any())
                got += 1
                if int(say_every) and got % int(say_every) == 0:
                    say("got", got)
    except EndOfSource:
        pass
    except SourceError as error:
        say("told", torn, error)
        return
    source.close()
    say("ended", got, torn, sum(source.lost_upstream().values()))


def relay(here: str, there: str) -> None:
    """Pass records on, and print a line after each list."""
    source, store = ShmSource(here), ShmStore(there)
    source.open()
    store.open()
    say("open")
    while True:
        records = source.read(16, 5.0)
        if records:
            store.write(records)
            say("passed", len(records))


def consume_and_stall(channel_name: str, count: str) -> None:
    """Read some records, keep them, and wait for a line of input."""
    source = ShmSource(channel_name)
    source.open()
    say("open")
    kept = []
    while len(kept) < int(count):
        kept.extend(source.read(1, 5.0))
    say("stalled", len(kept))
    listen()
    intact = all((r.data == r.seq).all() for r in kept)
    source.close()
    say("intact" if intact else "torn")


def consume_and_keep(channel_name: str) -> None:
    """Read for ever and keep everything."""
    source = ShmSource(channel_name)
    source.open()
    say("open")
    kept = []
    while True:
        kept.extend(source.read(100, 5.0))


def consume_and_fork(channel_name: str) -> None:
    """Open a source and fork a child that lives on, until its input ends."""
    source = ShmSource(channel_name)
    source.open()
    if os.fork() == 0:
        listen()
        os._exit(0)
    say("forked")
    source.read(1, 30.0)
    say("read")
    source.read(1, 60.0)


def hold_lock(name: str) -> None:
    """Acquire an array's lock, print a line, write half of the array, and wait to be killed."""
    array = SharedMemoryArray(name).connect()
    with array.array() as elements:
        elements[: len(elements) // 2] = 99
        say("locked")
        listen()


def hold_directory(channel_name: str) -> None:
    """Hold the lock of a channel's directory until killed."""
    with locked_directory(path_of("channel", channel_name)):
        say("locked")
        listen()


def add(name: str, times: str) -> None:
    """Add one to the first element, many times."""
    array = SharedMemoryArray(name).connect()
    for _ in range(int(times)):
        array.add(0, 1)
    array.disconnect()
    say("added")


def add_for_ever(name: str) -> None:
    """Add one to all elements repeatedly."""
    array = SharedMemoryArray(name).connect()
    while True:
        array.add(..., 1)
        say("added")


def come_and_go(channel_name: str) -> None:
    """Open and close both sides of a channel repeatedly."""
    while True:
        source, store = ShmSource(channel_name, latest=True), ShmStore(channel_name)
        source.open()
        store.open()
        store.close()
        source.close()
        say("turn")


def lead(channel_name: str, name: str) -> None:
    """Start a child that produces, consume what comes, and add to an array for each record."""
    source, array = ShmSource(channel_name), SharedMemoryArray(name).connect()
    source.open()
    child = multiprocessing.get_context("spawn").Process(target=produce_until_told, args=(channel_name,))
    child.start()
    while True:
        for record in source.read(16, 5.0):
            assert (record.data == record.seq).all()
            array.add(..., 1)
            say("got")


def produce_until_told(channel_name: str) -> None:
    """Write until an error; print it, and the seconds of waiting before it."""
    store = ShmStore(channel_name, consumer_timeout_s=0.5)
    store.open()
    number = 0
    while True:
        before_s = time.monotonic()
        try:
            store.write([Record(frame(number, 50_000), channel="camera", seq=number)])
        except StoreError as error:
            waited_s = time.monotonic() - before_s
            store.close()
            say("told", round(waited_s, 3), error)
            return
        number += 1


def write_frames(name: str) -> None:
    """Write whole frames of one value for ever."""
    array = SharedMemoryArray(name).connect()
    say("writing")
    number = 0
    while True:
        number += 1
        array.write_data((0,), np.full(array.shape, number % 250, array.datatype))


def show(name: str) -> None:
    """Print a description of an array."""
    with SharedMemoryArray(name) as array:
        say(array.shape, array.datatype, array.read_data((0,), convert_output=True))


def put(store_name: str, name: str, value: str) -> None:
    """Put one object after a line of input."""
    store = ShmObjectStore(store_name)
    store.open()
    say("open")
    listen()
    say(store.put(np.full(100_000, int(value)), name))
    store.close()


def put_for_ever(store_name: str) -> None:
    """Put and delete objects until killed."""
    store = ShmObjectStore(store_name)
    store.open()
    say("open")
    number = 0
    while True:
        store.put(frame(number, 30_000), f"{os.getpid()}-{number}")
        if number > 5:
            store.delete(f"{os.getpid()}-{number - 5}")
        number += 1


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    globals()[sys.argv[1]](*sys.argv[2:])
