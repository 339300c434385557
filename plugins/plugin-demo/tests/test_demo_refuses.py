"""Bad input: one clear sentence, a nonzero exit status, no traceback, and no partial results."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from penstock.plugins import Plugins
from penstock_demo.command import read_back
from penstock_demo.pipelines import Scene

from .conftest import Demo


def refusal(demo: Demo, *arguments: object, status: int = 1) -> str:
    """Run the demo, check that it fails with one line and no traceback, and return that line."""
    done = demo(*arguments)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("penstock: error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


def cut(video: Path, target: Path, *, faststart: bool) -> Path:
    """Write the first two thirds of a video; with `faststart` its index comes first, and is complete."""
    source = video
    if faststart:
        source = target.with_name("whole.mp4")
        with av.open(str(video)) as given, av.open(str(source), "w", options={"movflags": "faststart"}) as made:
            stream = made.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    made.mux(packet)
    data = source.read_bytes()
    target.write_bytes(data[: 2 * len(data) // 3])
    return target


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 1000], ids=["empty", "text"])
def test_a_file_that_is_no_video(demo: Demo, tmp_path: Path, content: bytes) -> None:
    """A file that is not a video is rejected by name, and nothing is created."""
    file = tmp_path / "notes.mp4"
    file.write_bytes(content)
    assert str(file) in refusal(demo, "--video", file)
    assert not (tmp_path / "penstock-demo").exists()


@pytest.mark.parametrize("name", ["missing.mp4", "."], ids=["missing", "directory"])
def test_no_file(demo: Demo, tmp_path: Path, name: str) -> None:
    """A video that does not exist, or is a directory, is rejected by name, and nothing is created."""
    said = refusal(demo, "--video", name)
    assert repr(name) in said
    assert "name a video file" in said
    assert not (tmp_path / "penstock-demo").exists()


def test_a_video_without_its_index(demo: Demo, bikes: Path, tmp_path: Path) -> None:
    """A video truncated before its index at the end is rejected by name, and nothing is created."""
    file = cut(bikes, tmp_path / "cut.mp4", faststart=False)
    assert str(file) in refusal(demo, "--video", file)
    assert not (tmp_path / "penstock-demo").exists()


def test_a_video_cut_off_in_the_middle(demo: Demo, bikes: Path, tmp_path: Path) -> None:
    """A truncated video is reported; decodable frames are stored, and the exit status is not 0."""
    file = cut(bikes, tmp_path / "cut.mp4", faststart=True)
    assert "process 1" in refusal(demo, "--video", file, "--out", tmp_path / "out")
    files = sorted((tmp_path / "out" / "run-0001" / "frames").rglob("*"))
    frames = [file for file in files if file.suffix == ".npy"]
    assert [file for file in files if file.is_file() and file.parent.name != ".index"] == frames
    assert 0 < len(frames) < 250
    assert {np.load(frame).shape for frame in frames} == {np.load(frames[0]).shape}


def test_a_video_that_ends_in_rubbish(demo: Demo, bikes: Path, tmp_path: Path) -> None:
    """A packet that cannot be decoded is reported with node, reason and consequence, and is dead-lettered."""
    file = tmp_path / "bikes.ts"
    with av.open(str(bikes)) as given, av.open(str(file), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 6 // 10])
    said = refusal(demo, "--video", file, "--out", tmp_path / "out")
    assert "process 2: node 'decode' (penstock-kafka-av 0.1.0): 1 record was dead-lettered; last error: " in said
    assert "decoding resumes at the next keyframe" in said
    assert len(list((tmp_path / "out" / "run-0001" / "dead-letters").iterdir())) == 1


def test_what_cannot_be_read_back_is_one_problem_of_several(tmp_path: Path) -> None:
    """If a failed run's stores cannot be read, this is reported in addition to its problems."""
    scene = Scene(channel="c", key="k", rendezvous="tcp/127.0.0.1:1", dead_letters=str(tmp_path / "dead-letters"))
    (problem,) = read_back(scene, tmp_path, Plugins.discover())
    assert problem.startswith("the stored frames cannot be read or drawn: ")
    assert str(tmp_path / "frames.lmdb") in problem
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made(demo: Demo, tmp_path: Path) -> None:
    """An output directory below a file is rejected by name, with a remedy."""
    (tmp_path / "file").write_text("in the way")
    said = refusal(demo, "--out", tmp_path / "file" / "out")
    assert str(tmp_path / "file" / "out") in said
    assert "--out" in said


@pytest.mark.parametrize(
    "arguments",
    [("--frames", "0"), ("--frames", "many"), ("--loop", "2"), ("--video", "x.mp4", "--frames", "3"), ("--nonsense",)],
    ids=" ".join,
)
def test_options_that_make_no_sense(demo: Demo, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Options that are unknown, out of range or contradictory are a usage error, and nothing is created."""
    done = demo(*arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "penstock-demo").exists()


@pytest.mark.parametrize("plugin", ["penstock-zenoh", "penstock-kafka-av", "penstock-npy", "penstock-lmdb"])
def test_a_missing_plugin(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin: str) -> None:
    """Without one of its plugins the demo names it and the pip command that installs it, and creates nothing."""
    monkeypatch.setenv("PENSTOCK_WITHOUT", plugin)
    said = refusal(demo)
    assert f"pip install 'penstock[{plugin.removeprefix('penstock-')}]'" in said
    assert not (tmp_path / "penstock-demo").exists()
