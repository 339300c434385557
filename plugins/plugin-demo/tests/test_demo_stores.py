"""The demo stores the video frame by frame and bit by bit, from real files over real zenoh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from penstock_lmdb.store import LmdbRecordStore

from .conftest import VIDEOS, Demo, footage


def frames_of(video: Path) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the frames as decoded by PyAV: (height, width, 3) uint8, blue first."""
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="bgr24")


@pytest.mark.slow
@pytest.mark.parametrize("name", VIDEOS)
def test_both_stores_hold_the_frames_that_pyav_decodes(demo: Demo, tmp_path: Path, name: str) -> None:
    """All frames decoded by PyAV are stored; each .npy is that frame, bit by bit, and LMDB returns the same."""
    done = demo("--video", footage(name), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (tmp_path / "out").iterdir()
    files = sorted((run / "frames").rglob("*.npy"))
    lmdb = LmdbRecordStore(path=run / "frames.lmdb", readonly=True)
    lmdb.open()
    try:
        keys = sorted(lmdb.keys())
        decoded = 0
        for number, expected in enumerate(frames_of(footage(name))):
            stored = np.load(files[number])
            assert stored.dtype == expected.dtype
            assert np.array_equal(stored, expected), f"frame {number}"
            assert np.array_equal(lmdb.get(keys[number]).data, expected), f"frame {number}"
            decoded += 1
    finally:
        lmdb.close()
    assert len(files) == len(keys) == decoded
    assert f"npy holds {decoded} frames and LMDB {decoded}; 5 of 5 read back" in done.stdout


def test_without_arguments_it_shows_the_test_picture(demo: Demo, tmp_path: Path) -> None:
    """`penstock demo` encodes 150 frames, stores them in ./penstock-demo, and draws a contact sheet."""
    done = demo()
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (tmp_path / "penstock-demo").iterdir()
    assert len(list((run / "frames").rglob("*.npy"))) == 150
    assert len(list((run / "moved").rglob("*.npy"))) == 150
    with av.open(str(run / "contact-sheet.png")) as picture:
        sheet = next(picture.decode(video=0)).to_ndarray(format="gray")
    assert sheet.std() > 10
    assert done.stdout.count("the counters add up") == 2
    assert not (run / "dead-letters").exists()


def test_a_second_demo_leaves_the_first_alone(demo: Demo, tmp_path: Path) -> None:
    """Results are never overwritten: each demo creates a new directory."""
    assert demo("--frames", 5).returncode == 0
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "penstock-demo" / "run-0001").rglob("*.npy")}
    assert demo("--frames", 7).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert len(list((tmp_path / "penstock-demo" / "run-0002" / "frames").rglob("*.npy"))) == 7
