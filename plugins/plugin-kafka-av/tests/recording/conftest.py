"""Frames, and the content of videos."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from penstock.record import Record
from penstock_kafka_av.encoder import draw_test_picture

START_NS = 1_700_000_000_000_000_000


@pytest.fixture
def frame() -> Callable[..., Record]:
    """Return the n-th frame of a channel at 25 frames per second: the test picture, in BGR order."""

    def make(number: int, *, channel: str = "front", size: tuple[int, int] = (64, 48), **fields: Any) -> Record:
        picture = draw_test_picture(number, width=size[0], height=size[1])[..., ::-1].copy()
        fields = {"seq": number, "time_ns": START_NS + number * 40_000_000, "data": picture} | fields
        return Record(channel=channel, **fields)

    return make


@pytest.fixture
def times_in() -> Callable[[Path], list[int]]:
    """Return the presentation times of a video, in nanoseconds from its beginning, as decoded by PyAV."""

    def read(path: Path) -> list[int]:
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
            return [round((frame.pts or 0) * frame.time_base * 1_000_000_000) for frame in frames]

    return read


@pytest.fixture
def said() -> Callable[[Path], list[dict[str, Any]]]:
    """Return the lines of a video's journal."""
    return lambda path: [json.loads(line) for line in Path(f"{path}.jsonl").read_text().splitlines()]
