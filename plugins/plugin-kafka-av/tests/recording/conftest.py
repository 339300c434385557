"""Frames, and what is in a video."""

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
    """The n-th frame of a channel at 25 frames a second: the test picture, in BGR order."""

    def make(number: int, *, channel: str = "front", size: tuple[int, int] = (64, 48), **fields: Any) -> Record:
        picture = draw_test_picture(number, width=size[0], height=size[1])[..., ::-1].copy()
        fields = {"seq": number, "time_ns": START_NS + number * 40_000_000, "data": picture} | fields
        return Record(channel=channel, **fields)

    return make


@pytest.fixture
def times_in() -> Callable[[Path], list[int]]:
    """When the pictures of a video are shown, in nanoseconds from its beginning, as PyAV decodes them."""

    def read(path: Path) -> list[int]:
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
            return [round((frame.pts or 0) * frame.time_base * 1_000_000_000) for frame in frames]

    return read


@pytest.fixture
def said() -> Callable[[Path], list[dict[str, Any]]]:
    """The lines of the journal of a video."""
    return lambda path: [json.loads(line) for line in Path(f"{path}.jsonl").read_text().splitlines()]
