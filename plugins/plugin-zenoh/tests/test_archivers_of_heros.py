"""The archivers beside those of herostools, on the events of one real HERO: the same files and calls, and SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest

from penstock_zenoh import ArrayArchiver, HERODataArchiver, JsonArchiver

WITHIN_S = 60


@pytest.fixture
def camera(heros, endpoint):
    """A real LocalHERO that listens at `endpoint`."""
    return heros("camera", listen=[endpoint], name="lab/cam2")


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def image(number: int) -> numpy.ndarray:
    return numpy.arange(12, dtype=numpy.uint16).reshape(3, 4) * 3 + number


def until(condition) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # files of another process


def both(camera, emit, theirs: Path, ours: Path, *, files_each: int) -> None:
    """Emit frames until both archivers hear them, then five more; wait until both have stored these."""
    first = 0
    while not (theirs.exists() and ours.exists()):
        emit(first)
        first += 1
        time.sleep(0.02)  # between frames until somebody hears them
        assert first < 3000
    for number in range(first, first + 5):
        emit(number)
    last = {f"{number:05d}" for number in range(first, first + 5)}
    for directory in (theirs, ours):
        until(lambda at=directory: sum(name[:5] in last for name in files(at)) == 5 * files_each)
    mine, other = files(ours), files(theirs)
    common = mine.keys() & other.keys()
    assert len(common) >= 5 * files_each
    assert {name for name in mine if name[:5] in last} == {name for name in other if name[:5] in last}
    for name in common:
        assert mine[name] == other[name], name


@pytest.mark.parametrize(
    ("split", "name", "count"),
    [(False, "{{ '%05d' % frame }}.npy", 1), (True, "{{ '%05d' % frame }}-{{ _split_index }}.npy", 3)],
)
def test_a4_the_same_files_as_the_real_archiver(split, name, count, camera, heros, endpoint, tmp_path):
    """Of one real camera the real `ArrayArchiver` and ours write files of the same names and bytes, split or not."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    common = {"split_data_array": split, "object_selector": "lab/*", "event_name": "acquisition_data"}
    arguments = {"save_template": "{{ file_path }}/" + name, "default_metadata": {"file_path": str(theirs)}, **common}
    real = heros("archive", connect=[endpoint], classname="ArrayArchiver", arguments=arguments)
    with ArrayArchiver(
        **{**arguments, "default_metadata": {"file_path": str(ours)}},
        connect=[endpoint],
        dead_letters=tmp_path / "dead",
    ) as archiver:
        both(
            camera,
            lambda number: camera.do("run", first=number, frames=1, bounds=False),
            theirs,
            ours,
            files_each=count,
        )
    real.do("stop")
    assert archiver.report.ok, str(archiver.report)
    assert archiver.report.stored * count == len(files(ours))


@pytest.mark.parametrize("merge", [False, True])
def test_a5_the_same_files_as_the_real_archiver(merge, camera, heros, endpoint, tmp_path):
    """Of one real HERO the real `JsonArchiver` and ours write files of the same names and bytes, merged or not."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    common = {"merge_metadata": merge, "object_selector": "lab/cam2", "event_name": "observable_data"}
    template = "/{{ '%05d' % n }}.json"
    # without file_path in the metadata, which merging would write into the files
    real = heros(
        "archive",
        connect=[endpoint],
        classname="JsonArchiver",
        arguments={**common, "save_template": f"{theirs}{template}", "default_metadata": {"lab": "µ"}},
    )
    with JsonArchiver(
        f"{ours}{template}", **common, default_metadata={"lab": "µ"}, connect=[endpoint], dead_letters=tmp_path / "dead"
    ) as archiver:

        def emit(number: int) -> None:
            data = {"volts": number / 4, "name": "é", "list": [1, {"a": None}]}
            camera.do("observable_data", arguments=[[data, {"n": number, "on": True}]])

        both(camera, emit, theirs, ours, files_each=1)
    real.do("stop")
    assert archiver.report.ok, str(archiver.report)


def test_a3_a_subclass_is_called_as_by_the_real_one(camera, endpoint, tmp_path):
    """`_store` gets what herostools' gives: the HERO's name, the data, and the event's metadata over the defaults."""
    calls = []

    class Mine(HERODataArchiver):
        def _store(self, source_name, payload, metadata):
            if not calls and not self.failed:
                self.failed = True
                raise OSError("the disk is busy")
            calls.append((source_name, payload, metadata))

        failed = False

    archiver = Mine("lab/*", "acquisition_data", {"frame": -1, "gain": 2}, connect=[endpoint], dead_letters=tmp_path)
    camera.do("wait", event="acquisition_data")
    camera.do("run", frames=20, bounds=False)
    until(lambda: len(calls) == 20 and archiver.is_queue_drained())
    archiver._teardown()
    assert archiver.report.ok, str(archiver.report)
    for number, (name, payload, metadata) in enumerate(calls):
        assert name == "lab/cam2"
        assert numpy.array_equal(payload, image(number))
        assert metadata == {"frame": number, "note": "µm", "gain": 2}


ARCHIVE = """
import json, sys, threading, time
from pathlib import Path
import penstock as ps
from penstock_zenoh.hero.source import HeroSource

endpoint, directory, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
source = HeroSource(
    object_selector="lab/cam2", event_name="acquisition_data", sequence_key="frame", bounds=(), connect=[endpoint],
    capacity=count,
)

def wait_for_the_disk(record):
    while not (directory / "disk").exists():
        time.sleep(0.005)
    return record

def tell():
    while source.mark() + source.lag() < count:
        time.sleep(0.01)
    print("queued", flush=True)

threading.Thread(target=tell, daemon=True).start()
archive = ps.store("npy", path=str(directory / "{{ '%05d' % frame }}.npy"), sidecar="none", name="archive")
flow = ps.source(source, name="cam") >> wait_for_the_disk >> archive
report = ps.Pipeline(flow, dead_letters=directory / "dead").run()
print(json.dumps([report.ok, report.received, report.stored, report.lost_upstream, str(report)]), flush=True)
"""


@pytest.mark.slow
def test_a4_sigterm_with_10_000_events_queued(camera, endpoint, tmp_path):
    """A process that gets SIGTERM while 10,000 events of a real camera wait stores and counts all of them."""
    count = 10_000
    process = subprocess.Popen(
        [sys.executable, "-c", ARCHIVE, endpoint, str(tmp_path), str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
    )
    try:
        camera.do("wait", event="acquisition_data")
        camera.do("burst", frames=count, side=4)
        assert process.stdout.readline() == "queued\n"
        assert not list(tmp_path.glob("*.npy"))
        process.send_signal(signal.SIGTERM)
        (tmp_path / "disk").touch()
        ok, received, stored, lost, report = json.loads(process.communicate(timeout=WITHIN_S)[0])
    finally:
        process.kill()
        process.communicate()
    assert (ok, received, stored, lost) == (True, count, count, 0), report
    assert process.returncode == 0
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == [f"{number:05d}.npy" for number in range(count)]
