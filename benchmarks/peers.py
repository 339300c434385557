"""The same work with ExEngine and ezmsg: an array of each record is changed and kept by its coordinates."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy
from measure import TURNS, Row, Turns, medians, per_record

import penstock as ps
from penstock.plugins.current import installed_plugins

SHAPE = (16,)


class Shelf:
    """Keep arrays by coordinates."""

    blocks = False

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}

    def open(self) -> None:
        """Do nothing."""

    def write(self, records: list[ps.Record]) -> None:
        """Keep them."""
        for record in records:
            self.kept[record.coords] = record.data

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def process(coords: Any, data: Any, metadata: Any) -> Any:
    """Change an array."""
    return coords, data + 1, metadata


def ours(coords: list[ps.DataCoordinates]) -> None:
    """Do it with penstock: a source, a processor, an edge, a store. The source never writes to its array."""
    array = numpy.zeros(SHAPE, "uint16")
    shelf = Shelf()
    source = ps.source((ps.Record(array, seq=n, coords=each) for n, each in enumerate(coords)), reuses_buffers=False)
    flow = source >> process >> ps.edge(capacity=1024) >> ps.store(shelf)
    report = ps.Pipeline(flow).run(plugins=installed_plugins())
    assert report.ok, report
    assert len(shelf.kept) == len(coords)


def bare(coords: list[ps.DataCoordinates]) -> None:
    """Do it in a loop over the same records, and nothing else."""
    array = numpy.zeros(SHAPE, "uint16")
    kept: dict[Any, Any] = {}
    for n, each in enumerate(coords):
        record = ps.Record(array, seq=n, coords=each)
        changed, data, metadata = process(record.coords, record.data, {})
        kept[changed] = record.replace(coords=changed, data=data, metadata=metadata).data
    assert len(kept) == len(coords)


def exengine_handler(count: int) -> None:
    """Do it with ExEngine's DataHandler: a thread that processes, a thread that stores, queues without bounds."""
    from exengine.kernel.data_coords import DataCoordinates
    from exengine.kernel.data_handler import DataHandler

    class Storage:
        def __init__(self) -> None:
            self.kept: dict[Any, Any] = {}

        def put(self, coordinates: Any, data: Any, metadata: Any) -> None:
            self.kept[coordinates] = data

        def finish(self) -> None:
            pass

    class Engine:
        def publish_notification(self, notification: object) -> None:
            pass

    array = numpy.zeros(SHAPE, "uint16")
    storage = Storage()
    handler = DataHandler(storage, process, _executor=Engine())
    for n in range(count):
        handler.put(DataCoordinates({"time": n}), array, {}, None)
    handler.finish()
    handler.await_completion()
    assert len(storage.kept) == count


def ezmsg_seconds(count: int) -> float:
    """Do it with ezmsg in one process: three units; return the seconds from the first message to the last."""
    import ezmsg.core as ez

    array = numpy.zeros(SHAPE, "uint16")
    kept: dict[int, Any] = {}
    times: list[float] = []

    class Give(ez.Unit):
        OUTPUT = ez.OutputStream(tuple)

        @ez.publisher(OUTPUT)
        async def give(self) -> Any:
            times.append(time.perf_counter())
            for n in range(count):
                yield self.OUTPUT, (n, array)

    class Change(ez.Unit):
        INPUT = ez.InputStream(tuple)
        OUTPUT = ez.OutputStream(tuple)

        @ez.subscriber(INPUT)
        @ez.publisher(OUTPUT)
        async def change(self, message: Any) -> Any:
            yield self.OUTPUT, (message[0], message[1] + 1)

    class Keep(ez.Unit):
        INPUT = ez.InputStream(tuple)

        @ez.subscriber(INPUT)
        async def keep(self, message: Any) -> None:
            kept[message[0]] = message[1]
            if len(kept) == count:
                times.append(time.perf_counter())
                raise ez.NormalTermination

    class Whole(ez.Collection):
        GIVE = Give()
        CHANGE = Change()
        KEEP = Keep()

        def network(self) -> Any:
            return ((self.GIVE.OUTPUT, self.CHANGE.INPUT), (self.CHANGE.OUTPUT, self.KEEP.INPUT))

    with contextlib.redirect_stderr(io.StringIO()):
        ez.run(WHOLE=Whole())
    assert len(kept) == count
    return times[1] - times[0]


def _version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def rows(scale: float) -> Iterator[Row | str]:
    """Measure; a peer that is not installed gives a sentence instead of a row."""
    logging.disable(logging.INFO)
    count = int(50_000 * scale)
    name = "source + processor, edge, store of small arrays"
    coords = [ps.DataCoordinates(time=n) for n in range(count)]
    peer = _version("exengine")
    if peer:
        seconds = medians(lambda: ours(coords), lambda: exengine_handler(count))
        yield per_record(f"{name}, beside ExEngine", f"{peer} DataHandler", seconds, count)
    else:
        yield "exengine is not installed: not measured"
    seconds = medians(lambda: ours(coords), lambda: bare(coords), clock=time.process_time)
    yield per_record(f"{name}, beside a bare loop", "a loop over the same records", seconds, count)
    peer = _version("ezmsg")
    if peer:
        few = int(20_000 * scale)
        mine, theirs = [], []
        for _ in range(TURNS):
            began = time.perf_counter()
            ours(coords[:few])
            mine.append(time.perf_counter() - began)
            theirs.append(ezmsg_seconds(few))
        turns = Turns(mine, theirs)
        yield per_record(f"{name}, beside ezmsg", f"{peer}, one process", turns, few)
    else:
        yield "ezmsg is not installed: not measured"
    logging.disable(logging.NOTSET)
