"""A video store after a kill, with a full disk, and with damaged or removed files."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from penstock.errors import CannotConnectToStoreError, StoreError, TemplateError
from penstock.testing.faults import file_size_limit
from penstock_kafka_av import VideoStore
from penstock_kafka_av.recording.journal import read_journal
from penstock_kafka_av.recording.segment_file import recover

KILLS = 40 if os.environ.get("PENSTOCK_FAULTS") == "full" else 6

CHILD = """
import sys
import numpy as np
from penstock.record import Record
from penstock_kafka_av import VideoStore
from penstock_kafka_av.test_picture import TestPictureSource

root, suffix, kind = sys.argv[1:]
store = VideoStore(path="{{ channel }}-{{ '%03d' % segment }}" + suffix, root=root, segment_s=0.5)
store.open()
if kind == "packets":
    source = TestPictureSource(frames=100_000, width=64, height=48, channel="a")
    source.open()
number = 0
while True:
    if kind == "packets":
        records = source.read(3, 1.0)
    else:
        records = [
            Record(np.full((48, 64, 3), n % 256, np.uint8), channel=channel, seq=n, time_ns=n * 40_000_000)
            for n in range(number, number + 3)
            for channel in "ab"
        ]
    store.write(records)
    number += 3
    if number % 2:
        store.sync()
        print(number, flush=True)
"""


def opened(root, path="{{ channel }}.mp4", **settings):
    """Return an open store."""
    store = VideoStore(path=path, root=root, **settings)
    store.open()
    return store


def seqs_in(root, channel):
    """Return the records in a channel's journals, and the number of frames in its videos."""
    seqs, pictures = [], 0
    for path in sorted(root.glob("*.jsonl")):
        journal = read_journal(path.read_bytes())
        if journal is None or journal.segment["channel"] != channel or not journal.fragments:
            continue
        seqs += [seq for first, last in journal.runs() for seq in range(first, last + 1)]
        with av.open(str(path.with_name(path.name.removesuffix(".jsonl")))) as container:
            pictures += sum(1 for _ in container.decode(video=0))
    return sorted(seqs), pictures


@pytest.mark.parametrize("kind", ["frames", "packets"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_killed_at_any_moment(tmp_path, suffix, kind):
    """Synced records can be played after `kill -9`, and the next store has no duplicate or damaged record."""
    chance = random.Random(f"{suffix}{kind}")
    for attempt in range(KILLS if kind == "frames" else KILLS // 2):
        root = tmp_path / str(attempt)
        command = [sys.executable, "-c", CHILD, str(root), suffix, kind]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            synced = 0
            for _ in range(chance.randint(1, 15)):
                synced = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            synced = int((child.stdout.read().split() or [synced])[-1])
        for channel in "ab" if kind == "frames" else "a":
            seqs, pictures = seqs_in(root, channel)
            assert seqs == list(range(len(seqs)))
            assert len(seqs) >= synced
            assert pictures >= synced - (0 if kind == "frames" else 3)  # the last B-frames are not shown
        store = opened(root, "{{ channel }}-{{ '%03d' % segment }}" + suffix, when_exists="skip")
        assert not list(root.glob("*.part*"))
        store.close()
        for channel in "ab" if kind == "frames" else "a":
            assert len(seqs_in(root, channel)[0]) >= synced
            assert len(list(root.glob(f"{channel}-*{suffix}"))) == len(list(root.glob(f"{channel}-*.jsonl")))


def test_torn_at_any_byte(tmp_path, frame, times_in):
    """Recovery keeps all complete fragments, however much of the last one is there."""
    store = opened(tmp_path / "one")
    ends = []
    for number in range(9):
        store.write([frame(number)])
        if number % 3 == 2:
            store.sync()
            ends.append((tmp_path / "one" / "front.part.mp4").stat().st_size)
    torn = tmp_path / "torn"
    for size in sorted({*range(0, ends[-1], 97), *ends, *(end - 1 for end in ends), *(end + 1 for end in ends[:-1])}):
        shutil.copytree(tmp_path / "one", torn)
        os.truncate(torn / "front.part.mp4", size)
        whole = recover(torn / "front.part.mp4.jsonl")
        fragments = sum(end <= size for end in ends)
        if fragments:
            assert whole == torn / "front.mp4"
            assert len(times_in(whole)) == 3 * fragments
            assert (
                read_journal((torn / "front.mp4.jsonl").read_bytes()).fragments[-1]["seqs"][-1][1] == 3 * fragments - 1
            )
        else:
            assert whole is None
        assert len(list(torn.iterdir())) == (2 if fragments else 0)
        shutil.rmtree(torn)
    store.close()


def test_torn_journal(tmp_path, frame, times_in):
    """Of a journal with a partial last line, or of garbage, recovery keeps exactly the valid lines."""
    store = opened(tmp_path / "one")
    for number in range(9):
        store.write([frame(number)])
        if number % 3 == 2:
            store.sync()
    content = (tmp_path / "one" / "front.part.mp4.jsonl").read_bytes()
    for size in range(0, len(content), 13):
        shutil.copytree(tmp_path / "one", tmp_path / "torn")
        (tmp_path / "torn" / "front.part.mp4.jsonl").write_bytes(content[:size])
        fragments = max(0, content[:size].count(b"\n") - 1)
        whole = recover(tmp_path / "torn" / "front.part.mp4.jsonl")
        assert (0 if whole is None else len(times_in(whole))) == 3 * fragments
        shutil.rmtree(tmp_path / "torn")
    store.close()


def test_a_live_writer_is_left_alone(tmp_path, frame, times_in):
    """A second store with the same root neither changes the first one's file nor writes to its name."""
    one = opened(tmp_path)
    one.write([frame(0)])
    one.sync()
    other = opened(tmp_path, when_exists="number")
    other.write([frame(100)])
    one.write([frame(1)])
    other.close()
    one.close()
    assert len(times_in(tmp_path / "front.mp4")) == 2
    assert len(times_in(tmp_path / "front-1.mp4")) == 1


def test_a_full_disk_loses_nothing(tmp_path, frame, times_in, said):
    """A full disk is a retryable StoreError; with space again, every frame is stored once, in order."""
    chance = np.random.default_rng(5)
    store = opened(tmp_path, segment_s=0.4)
    frames = [frame(n, data=chance.integers(0, 256, (48, 64, 3), dtype=np.uint8)) for n in range(30)]
    waiting, errors = [], []
    for number, each in enumerate(frames):
        waiting.append(each)
        with file_size_limit(12_000 if number < 20 else 1 << 30):
            try:
                store.write(waiting)
                waiting = []
            except StoreError as error:
                errors.append(error)
                waiting = [record for record, _ in error.failed]
            try:
                store.sync()
            except StoreError as error:
                errors.append(error)
    assert errors
    assert all(error.retryable for error in errors)
    store.close()
    seqs, pictures = seqs_in(tmp_path, "front")
    assert seqs == list(range(30))
    assert pictures == 30


def test_a_video_that_was_removed(tmp_path, frame):
    """If the file is removed while it is written, the next sync raises an error that is not retryable."""
    store = opened(tmp_path)
    store.write([frame(0)])
    store.sync()
    (tmp_path / "front.part.mp4").unlink()
    store.write([frame(1)])
    with pytest.raises(StoreError, match="was removed while it was being written") as caught:
        store.sync()
    assert not caught.value.retryable
    with pytest.raises(StoreError, match="was removed"):
        store.close()
    store.close()


def test_garbage_beside_the_videos(tmp_path, frame, caplog):
    """Foreign files below the root, including journals, are ignored and kept."""
    (tmp_path / "deep").mkdir()
    rubbish = {"notes.jsonl": b'{"a": 1}\n', "x.mp4.jsonl": b"\xff\xfe", "deep/y.mkv.jsonl": b"[1]\n", "z.mp4": b"z"}
    for name, content in rubbish.items():
        (tmp_path / name).write_bytes(content)
    store = opened(tmp_path)
    store.write([frame(0)])
    store.close()
    assert all((tmp_path / name).read_bytes() == content for name, content in rubbish.items())


def test_roots(tmp_path):
    """A root that is a file, an unknown suffix, and a template that leaves the root are rejected at open."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotConnectToStoreError, match="is a file; give a root that is a directory"):
        opened(tmp_path / "file")
    with pytest.raises(CannotConnectToStoreError, match=r"must end in .mkv or .mp4"):
        opened(tmp_path, "{{ channel }}.avi")
    with pytest.raises((TemplateError, ValueError)):
        opened(tmp_path, "../{{ channel }}.mp4")


def test_a_channel_that_leaves_the_root(tmp_path, frame, times_in):
    """A record whose path would leave the root is rejected; its neighbours are written."""
    store = opened(tmp_path / "root")
    with pytest.raises(StoreError, match="must lie under") as caught:
        store.write([frame(0), frame(0, channel="../../evil"), frame(1)])
    assert len(caught.value.failed) == 1
    store.close()
    assert len(times_in(tmp_path / "root" / "front.mp4")) == 2


def test_very_many_channels(tmp_path, frame):
    """With too many open channels, the least recently written files are finished; all are complete."""
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    store = opened(tmp_path, codec="mpeg4")
    for number in range(300):
        store.write([frame(0, channel=f"c{number}", size=(16, 16))])
    if before:
        assert len(list(Path("/proc/self/fd").iterdir())) < before + 2 * 256 + 10
    store.close()
    assert len(list(tmp_path.glob("*.mp4"))) == 300
