"""LMDB files beside bare loops of the library with the same durability, and reading from a large file.

Reading is measured by the time of the processor; writing waits for the disk, which the clock alone sees.
"""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import numpy
from measure import Row, medians, per_record, time_of_one

import penstock as ps

LIST = 1000
MAP = 1 << 31
COMMITTED = "all of it, against kill -9; synced at the end against a power cut"


def rows(scale: float) -> Iterator[Row]:
    """Measure, in a temporary directory of the working directory's disk."""
    top = Path(tempfile.mkdtemp(prefix="bench-", dir=Path.cwd()))

    def fresh() -> Path:
        for old in top.iterdir():
            shutil.rmtree(old)
        return Path(tempfile.mkdtemp(dir=top))

    try:
        yield from _writing(scale, fresh)
        yield from _objects(scale, fresh)
        yield from _reading(scale, fresh)
    finally:
        shutil.rmtree(top)


def _writing(scale: float, fresh: Callable[[], Path]) -> Iterator[Row]:
    from penstock_lmdb import LmdbRecordStore

    def ours(records: list[ps.Record], at_once: int, **settings: object) -> Callable[[], None]:
        def work() -> None:
            store = LmdbRecordStore(path=fresh() / "x.lmdb", map_size=MAP, **settings)  # type: ignore[arg-type]  # settings of a benchmark
            store.open()
            for start in range(0, len(records), at_once):
                store.write(records[start : start + at_once])
                if at_once == 1:
                    store.sync()
            store.sync()
            store.close()

        return work

    def bare(records: list[ps.Record], at_once: int, *, sync: bool) -> Callable[[], None]:
        def work() -> None:
            with lmdb.open(str(fresh()), map_size=MAP, sync=sync) as environment:
                for start in range(0, len(records), at_once):
                    with environment.begin(write=True) as transaction:
                        for record in records[start : start + at_once]:
                            transaction.put(f"camera/{record.seq:012d}".encode(), record.data.tobytes())
                environment.sync(True)

        return work

    def made(size: int, count: int) -> list[ps.Record]:
        arrays = numpy.random.default_rng(0).integers(0, 255, (16, size), "uint8")
        return [ps.Record(arrays[n % 16], channel="camera", seq=n, time_ns=n) for n in range(count)]

    for size, at_once in ((1 << 10, LIST), (1 << 19, 16)):
        records = made(size, max(32, int((20_000 if size == 1 << 10 else 200) * scale)))
        seconds = medians(ours(records, at_once, flush_each="sync"), bare(records, at_once, sync=False))
        yield per_record(
            f"store lmdb, {size >> 10} KiB records",
            f"lmdb alone, {at_once} puts of raw bytes a transaction",
            seconds, len(records), durability=COMMITTED,
        )  # fmt: skip
    records = made(1 << 10, max(50, int(500 * scale)))  # so many that opening the file does not count
    yield per_record(
        "store lmdb, 1 KiB records, each synced", "lmdb alone, a synced transaction a put",
        medians(ours(records, 1, flush_each="sync"), bare(records, 1, sync=True)), len(records),
        durability="each, against a power cut",
    )  # fmt: skip


def _objects(scale: float, fresh: Callable[[], Path]) -> Iterator[Row]:
    from penstock_lmdb import LMDBData, LMDBStore

    arrays = numpy.random.default_rng(0).integers(0, 255, (16, 1024), "uint8")
    count = max(200, int(20_000 * scale))

    def ours() -> None:
        with LMDBStore(fresh(), "x") as store:
            for n in range(count):
                store.put(arrays[n % 16], "frame")

    def pickling() -> None:
        """Pickle into a dict, and commit it each second, as improv's store does."""
        with lmdb.open(str(fresh()), map_size=MAP) as environment:
            waiting: dict[bytes, bytes] = {}
            due = time.monotonic() + 1
            for n in range(count):
                waiting[os.urandom(20)] = pickle.dumps(LMDBData(arrays[n % 16], time.time(), "frame"))
                if time.monotonic() > due or n == count - 1:
                    with environment.begin(write=True) as transaction:
                        for key, value in waiting.items():
                            transaction.put(key, value)
                    waiting, due = {}, time.monotonic() + 1
            environment.sync(True)

    def bare() -> None:
        with lmdb.open(str(fresh()), map_size=MAP) as environment:
            with environment.begin(write=True) as transaction:
                for n in range(count):
                    transaction.put(b"%016x" % n, arrays[n % 16].tobytes())
            environment.sync(True)

    for beside, what, work in (
        ("pickling", "pickle into a dict, one commit a second", pickling),
        ("lmdb", "lmdb alone, one transaction", bare),
    ):
        yield per_record(
            f"LMDBStore, 1 KiB objects, beside {beside}", what, medians(ours, work), count,
            durability="all of it, against a power cut, at the end",
        )  # fmt: skip


def _reading(scale: float, fresh: Callable[[], Path]) -> Iterator[Row]:
    from penstock_lmdb import LmdbRecordStore

    path = fresh() / "x.lmdb"
    count = max(10_000, int(1_000_000 * scale))
    store = LmdbRecordStore(path=path, map_size=MAP, flush_each="sync", keep_changes=0)
    store.open()
    frames = [ps.Record(numpy.zeros(1 << 19, "uint8"), channel="frame", seq=n) for n in range(16)]
    store.write(frames)
    for start in range(0, count, 10 * LIST):
        store.write(
            [ps.Record(n, channel="n", seq=n, time_ns=n, coords={"t": n}) for n in range(start, start + 10 * LIST)]
        )
    keys = [store.key_of(record) for record in frames] * 500

    def views() -> None:
        with store.reading():
            for key in keys:
                store.get(key)

    with lmdb.open(str(path.parent / "bare"), map_size=MAP) as environment:
        with environment.begin(write=True) as transaction:
            for n in range(16):
                transaction.put(b"%012d" % n, bytes(1 << 19))
        plain = [b"%012d" % (n % 16) for n in range(len(keys))]

        def bare() -> None:
            with environment.begin(buffers=True) as transaction:
                for key in plain:
                    numpy.frombuffer(transaction.get(key), "uint8")

        seconds = medians(views, bare, clock=time.process_time)
    reference = "lmdb alone, get and numpy.frombuffer"
    yield per_record("store lmdb, get of 512 KiB as a view", reference, seconds, len(keys))
    middle = count // 2

    def select() -> None:
        assert len(list(store.keys(t=slice(middle, middle + 1000)))) == 1000

    def select_bare() -> None:
        with environment.begin() as transaction, transaction.cursor() as cursor:
            cursor.set_range(b"%012d" % middle)
            assert len(list(itertools.islice(cursor.iternext(values=False), 1000))) == 1000

    with lmdb.open(str(path.parent / "bare"), map_size=MAP) as environment:
        with environment.begin(write=True) as transaction:
            for n in range(16, count):
                transaction.put(b"%012d" % n, b"", append=True)
        seconds = medians(select, select_bare, clock=time.process_time)
    reference = f"a cursor of lmdb alone, both over {count:,} records"
    yield time_of_one("store lmdb, 1,000 keys by a range", reference, seconds, "ms")
    store.close()

    def opened() -> None:
        again = LmdbRecordStore(path=path, readonly=True)
        again.open()
        again.close()

    def opened_bare() -> None:
        lmdb.open(str(path.parent / "bare"), readonly=True).close()

    reference = f"lmdb alone, both {count:,} records"
    yield time_of_one("store lmdb, open a large file", reference, medians(opened, opened_bare), "ms")
