"""Programs as users write them: every line must pass `mypy --strict`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import penstock as ps


class Camera:
    """A source without a base class."""

    def open(self) -> None: ...

    def read(self, most: int, wait_s: float) -> list[ps.Record]:
        """Return records; the arguments may have any names."""
        return [ps.Record(data=most)]

    def close(self) -> None: ...


class Packets:
    """A decoder."""

    def __init__(self, scale: int = 1) -> None:
        self.scale = scale

    def decode(self, packet: ps.Record) -> Iterator[ps.Record]:
        """Yield records."""
        yield packet

    def flush(self) -> Iterable[ps.Record]:
        """Return nothing."""
        return ()

    def reset(self) -> None: ...


class Shelf:
    """A store."""

    def open(self) -> None: ...

    def write(self, batch: Sequence[ps.Record]) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class Storage:
    """A storage of ExEngine's form."""

    def put(self, coordinates: Any, data: Any, metadata: Any) -> None: ...

    def get_data(self, coordinates: Any) -> Any: ...

    def get_metadata(self, coordinates: Any) -> Any: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


class Gain:
    """A processor with a setting."""

    def __init__(self, factor: int = 1) -> None:
        self.factor = factor

    def __call__(self, record: ps.Record) -> ps.Record | None:
        """Return the record."""
        return record


def one(record: ps.Record) -> ps.Record:
    """Return the record."""
    return record


def three(coords: ps.DataCoordinates, data: Any, metadata: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return what came."""
    return coords, data, metadata


camera: ps.Node = ps.source(
    Camera(), name="camera", expect_every_s=2, retry=ps.Retry(times=None, on=(OSError, "SourceError"))
)
frames = ps.source(range(10), channel="frames", reuses_buffers=False)
files = ps.source("files", directory=Path("in"), pattern="*.raw", on_error="skip")
other = ps.source("zenoh", key="lab/**", name="other")
flow: ps.Flow = camera >> ps.decoder(Packets) >> ps.processor(Gain, factor=2, workers=2, ordered=False) >> Gain(3)
archive = flow >> ps.store(Shelf())
storage = flow >> ps.edge(capacity=1, when_full="drop_oldest") >> ps.store(Storage(), name="storage")
index = flow >> ps.store("lmdb", path="index.lmdb", on_error="stop")
viewer = flow >> ps.edge(when_full=ps.Sample(10)) >> one >> three >> (lambda record: None)
spilled = files >> ps.edge(when_full=ps.Spill(Path("left"), max_bytes=2**30)) >> ps.store("log", path="log")
joined = (camera, files) >> ps.processor("batch", size=3, place="process") >> ps.store("memory", capacity=3)
listed = [1, 2, 3] >> ps.processor(one) >> ps.store("null")
decoded = files >> ps.decoder("json") >> ps.decoder(lambda: Packets(2)) >> ps.decoder(Packets(3)) >> ps.store("null")
aligned = joined >> ps.processor("align", channels=["a", "b"], tolerance_s=0.1, missing="skip")
called = ps.source((n for n in range(3)), name="numbers") >> [ps.processor(one), ps.processor(one)]

pipeline = ps.Pipeline(archive, storage, index, name="lab", checkpoint_every_s=0.5, dead_letters=Path("dead"))
report: ps.RunReport = pipeline.run(check=True)
records: list[ps.Record] = ps.Pipeline(listed).collect(limit=3)
with pipeline.start() as run:
    run.pause("camera")
    run.pause(camera)
    names: list[str] = run.add(camera >> ps.store("null"))
    run.replace(camera, ps.source(Camera()))
    stored: int = run.stop().stored
edge: ps.Edge = ps.Edge(when_full="latest")
policy: ps.Block | ps.DropOldest | ps.DropNewest | ps.Latest | ps.Sample | ps.Spill = edge.when_full
error: type[Exception] = ps.errors.StoreError
control: ps.Flow = ps.control([b"{}"], name="control", actions={"twice": one}, allow=[Shelf]) >> ps.store("null")
with ps.DataHandler(ps.store("memory"), one, capacity=3, when_full=ps.DropOldest()) as handler:
    put: bool = handler.put({"time": 3}, b"data")
