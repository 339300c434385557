"""Stores beside the libraries that they stand on, with the same durability at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy
from measure import Row, medians, per_record

import penstock as ps

AT_ONCE = 16
SYNCED = "all of it, against a power cut: synced at the end; each file whole, against kill -9, at any moment"
SYNCED_PLAIN = "the same at the end, but files are torn by kill -9 on the way"


def rows(scale: float) -> Iterator[Row]:
    """Measure, in a temporary directory of the working directory's disk."""
    from penstock_lmdb.store import LmdbRecordStore
    from penstock_npy.store import NpyStore

    count = max(32, int(200 * scale))
    frames = numpy.random.default_rng(0).integers(0, 4096, (16, 512, 512), "uint16")
    records = [ps.Record(frames[n % 16], channel="camera", seq=n) for n in range(count)]
    top = Path(tempfile.mkdtemp(prefix="bench-", dir=Path.cwd()))

    def fresh() -> Path:
        for old in top.iterdir():
            shutil.rmtree(old)
        return Path(tempfile.mkdtemp(dir=top))

    def write(store: NpyStore | LmdbRecordStore) -> None:
        store.open()
        for start in range(0, count, AT_ONCE):
            store.write(records[start : start + AT_ONCE])
        store.sync()
        store.close()

    def plain_npy() -> None:
        directory = fresh()
        for record in records:
            numpy.save(directory / f"{record.seq:06d}.npy", record.data)
        for path in [*directory.iterdir(), directory]:
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.close(file)

    def plain_lmdb() -> None:
        with lmdb.open(str(fresh()), map_size=1 << 30, sync=False) as environment:
            for start in range(0, count, AT_ONCE):
                with environment.begin(write=True) as transaction:
                    for record in records[start : start + AT_ONCE]:
                        transaction.put(f"camera/{record.seq:012d}".encode(), record.data.tobytes())
            environment.sync(True)

    try:
        seconds = medians(lambda: write(NpyStore(path=f"{fresh()}/{{{{ '%06d' % seq }}}}.npy")), plain_npy)
        yield per_record(
            "store npy, 512 KiB arrays",
            "numpy.save, then fsync of each file and of the directory",
            seconds,
            count,
            durability=f"{SYNCED}; reference: {SYNCED_PLAIN}",
        )
        seconds = medians(lambda: write(LmdbRecordStore(path=fresh() / "x.lmdb", flush_each="sync")), plain_lmdb)
        yield per_record(
            "store lmdb, 512 KiB arrays",
            f"lmdb alone, {AT_ONCE} puts of raw bytes a transaction",
            seconds,
            count,
            durability="all of it, against a power cut: synced at the end; each list whole, against kill -9",
        )
    finally:
        shutil.rmtree(top)
