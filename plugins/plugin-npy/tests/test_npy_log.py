"""The npy-log store and source: records appended to files, and given again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import penstock as ps
from penstock.coords import DataCoordinates
from penstock.errors import CannotGetObjectError, EndOfSource, RecordExistsError, SourceError, StoreError
from penstock.record import Record
from penstock.testing import SourceContract, StoreContract
from penstock_npy import DataLogger, LogPackage, NpyLogSource, NpyLogStore
from penstock_npy.segment import read_places

ROUNDS = 100 if os.environ.get("PENSTOCK_FAULTS") == "full" else 5
CHILD = """
import sys
from penstock.record import Record
from penstock_npy import NpyLogStore

store = NpyLogStore(path=sys.argv[1], when_exists="skip", segment_bytes=20_000)
store.open()
number = int(sys.argv[2])
while True:
    store.write([Record(b"%d" % n, channel="camera", seq=n, time_ns=n) for n in range(number, number + 7)])
    number += 7
    store.sync()
    print(number, flush=True)
"""


class TestNpyLogStore(StoreContract):
    reads_live = True
    several_writers = True

    def make_store(self, tmp_path):
        return NpyLogStore(path=tmp_path / "log")

    def make_unopenable(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        return NpyLogStore(path=tmp_path / "file")

    def damage(self, tmp_path, key):
        (path,) = (tmp_path / "log" / key.split("/")[0]).glob("*.log")
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        return True


class TestNpyLogStoreOfSmallSegments(StoreContract):
    many = 500

    def make_store(self, tmp_path):
        return NpyLogStore(path=tmp_path / "log", segment_bytes=2000, when_exists="skip")


class TestNpyLogSource(SourceContract):
    count = 12
    remembers_commit = True

    def make_source(self, tmp_path):
        if not (tmp_path / "log").exists():
            store = NpyLogStore(path=tmp_path / "log", segment_bytes=1000)
            store.open()
            for number in range(6):
                store.write([
                    Record(np.full(20, number), channel=channel, seq=number, time_ns=number * 10 + place)
                    for place, channel in enumerate("ab")
                ])  # fmt: skip
            store.close()
        return NpyLogSource(path=tmp_path / "log", state=tmp_path / "state.json")

    def make_unopenable(self, tmp_path):
        return NpyLogSource(path=tmp_path / "nothing")

    def test_building_does_nothing(self, tmp_path):
        """Building a source touches no file; the log is made first here."""
        self.make_source(tmp_path)
        super().test_building_does_nothing(tmp_path)


class TestNpyLogSourceThatFollows(SourceContract):
    count = 5
    ends = False
    remembers_commit = True

    def make_source(self, tmp_path):
        (tmp_path / "log").mkdir(exist_ok=True)
        return NpyLogSource(path=tmp_path / "log", state=tmp_path / "state.json", follow=True)

    def feed(self, tmp_path):
        store = NpyLogStore(path=tmp_path / "log", when_exists="skip")
        store.open()
        store.write([Record(b"data", channel="camera", seq=number, time_ns=number) for number in range(5)])
        store.close()

    def test_building_does_nothing(self, tmp_path):
        """Building a source touches no file; the directory is made first here."""
        self.make_source(tmp_path)
        super().test_building_does_nothing(tmp_path)


@pytest.fixture
def opened(tmp_path):
    """Open stores, and close them at the end."""
    stores = []

    def open_store(**settings):
        store = NpyLogStore(**{"path": tmp_path / "log", **settings})
        store.open()
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close()


def record(number, **fields):
    return Record(bytes(100), **{"channel": "camera", "seq": number, "time_ns": number, **fields})


def replayed(**settings):
    """Return all records of a source, with the seconds it took."""
    source = NpyLogSource(**settings)
    source.open()
    records: list[Record] = []
    began_s = time.monotonic()
    try:
        while True:
            records += source.read(100, 5.0)
    except EndOfSource:
        return records, time.monotonic() - began_s, dict(source.lost_upstream())
    finally:
        source.close()


def test_a_torn_end_is_cut(opened, tmp_path):
    """An end that a dying process left half-written is cut off by the next writer; all before it is there."""
    store = opened()
    store.write([record(number) for number in range(10)])
    store.close()
    (segment,) = (tmp_path / "log").rglob("*.log")
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size - 30)
    other = opened()
    other.write([record(100)])
    assert [int(key.split("/")[1]) for key in list(other.keys())] == [*range(9), 100]
    assert other.get("camera/100").seq == 100


def test_a_lost_index_is_made_again(opened, tmp_path):
    """A segment without its index is scanned by the next writer, and nothing of it is lost."""
    store = opened()
    store.write([record(number) for number in range(10)])
    store.close()
    (index,) = (tmp_path / "log").rglob("*.idx")
    before = index.read_bytes()
    for content in (b"", before[:-5], before[:24], b"\xff" * 48):
        index.write_bytes(content)
        other = opened(when_exists="skip")
        other.write([record(0)])
        assert len(other) == 10
        other.close()
        assert index.read_bytes() == before


def test_no_log_is_overwritten(opened, tmp_path):
    """A file that is not a log is refused, and stays as it is."""
    (tmp_path / "log/camera").mkdir(parents=True)
    foreign = tmp_path / "log/camera/000000000000.log"
    foreign.write_bytes(b"something else")
    with pytest.raises(StoreError, match="not a log") as caught:
        opened().write([record(0)])
    assert not caught.value.retryable
    assert foreign.read_bytes() == b"something else"


def test_two_writers_of_one_channel(opened):
    """While one store writes to a channel, another is refused with an error that may be tried again."""
    first, second = opened(), opened()
    first.write([record(0)])
    with pytest.raises(StoreError, match="another writer has it open") as caught:
        second.write([record(1)])
    assert caught.value.retryable
    second.write([record(1, channel="other")])
    first.close()
    second.write([record(1)])
    assert len(second) == 3


def test_retention_by_size(opened, tmp_path):
    """The oldest files go when a channel has more than it may; the one that is written to stays, however large."""
    store = opened(segment_bytes=2000, keep_bytes=5000)
    for number in range(200):
        store.write([record(number)])
    store.sync()
    there = [int(key.split("/")[1]) for key in list(store.keys())]
    assert there == list(range(there[0], 200))
    assert there[0] > 0
    assert sum(path.stat().st_size for path in (tmp_path / "log/camera").glob("*.log")) <= 5000 + 2500
    store.write([record(500).replace(data=bytes(100_000)), record(501)])
    assert "camera/501" in store


def test_retention_by_age(opened, tmp_path):
    """Files that were last written to longer ago than keep_s go; the one that is written to stays."""
    store = opened(segment_bytes=1000, keep_s=3600.0)
    for number in range(20):
        store.write([record(number)])
    files = sorted((tmp_path / "log/camera").glob("*.log"))
    for path in files[:2] + files[-1:]:
        os.utime(path, (0, 0))
    store.sync()
    left = sorted((tmp_path / "log/camera").glob("*.log"))
    assert left == files[2:]
    assert sorted(path.with_suffix(".log") for path in (tmp_path / "log/camera").glob("*.idx")) == left


def test_a_seq_that_is_there(opened):
    """A seq that its channel has is refused, or dropped with skip; one that comes late is kept."""
    store = opened()
    store.write([record(5), record(7), record(6)])
    with pytest.raises(RecordExistsError) as caught:
        store.write([record(6), record(8), record(8)])
    assert [each.seq for each, _ in caught.value.failed] == [6, 8]
    assert [int(key.split("/")[1]) for key in list(store.keys())] == [5, 7, 6, 8]


def test_coordinates(opened):
    """Keys by coordinates are those of the records that match."""
    store = opened()
    store.write([record(n, coords=DataCoordinates(z=n % 2)) for n in range(6)])
    assert list(store.keys(z=1)) == ["camera/1", "camera/3", "camera/5"]


def test_channels_whatever_they_are_called(opened, tmp_path):
    """Names that are too long, differ in case only, or would lead elsewhere are channels like others."""
    names = ["", "a", "A", "..", "../../up", "/abs", "a\0b", "x" * 5000, "x" * 5001, "end.", "CON"]
    store = opened()
    store.write([record(n, channel=name) for n, name in enumerate(names)])
    assert [store.get(store.key_of(record(n, channel=name))).channel for n, name in enumerate(names)] == names
    assert {path.parent for path in tmp_path.rglob("*") if path.is_dir()} == {tmp_path, tmp_path / "log"}
    assert len({path.name.lower() for path in (tmp_path / "log").iterdir()}) == len(names)


def test_replay_in_the_order_of_times(opened, tmp_path):
    """The channels of a log come merged by their times, each in the order of writing, at full speed."""
    store = opened()
    store.write([record(n, channel="a", time_ns=n * 3) for n in range(5)])
    store.write([record(n, channel="b", time_ns=n * 2 + 1) for n in range(5)])
    records, _, lost = replayed(path=tmp_path / "log")
    assert [each.time_ns for each in records] == sorted(each.time_ns for each in records)
    assert len(records) == 10
    assert not lost


def test_replay_at_the_pace_of_the_recording(opened, tmp_path):
    """With a speed, records come no sooner than they were recorded, so many times as fast."""
    opened().write([record(n, time_ns=n * 100_000_000) for n in range(5)])
    records, took_s, _ = replayed(path=tmp_path / "log", speed=2.0)
    assert len(records) == 5
    assert took_s >= 0.2
    source = NpyLogSource(path=tmp_path / "log", speed=1e-3)
    source.open()
    assert len(source.read(10, 0.0)) == 1
    assert source.read(10, 0.01) == []
    source.close()


def test_a_damaged_record_is_counted(opened, tmp_path):
    """A record that cannot be read is lost upstream, and costs no other."""
    store = opened()
    store.write([record(n) for n in range(10)])
    store.close()
    (segment,) = (tmp_path / "log").rglob("*.log")
    content = bytearray(segment.read_bytes())
    content[int(read_places(segment)[5]["offset"]) + 60] ^= 1
    segment.write_bytes(content)
    records, _, lost = replayed(path=tmp_path / "log")
    assert len(records) == 9
    assert lost == {"camera": 1}
    with pytest.raises(CannotGetObjectError):
        opened().get("camera/5")


def test_the_log_of_a_data_logger_is_replayed(tmp_path):
    """What a DataLogger wrote comes as bytes, counted within each source, over all its sessions."""
    logger = DataLogger(tmp_path, layout="log")
    for session in range(2):
        with logger:
            for number in range(3):
                logger.input_queue.put(LogPackage(7, session * 10 + number, b"%d" % number))
    records, _, _ = replayed(path=logger.output_directory)
    assert [(each.channel, each.seq, each.time_ns, each.data) for each in records] == [
        ("007", n, (n // 3) * 10 + n % 3, b"%d" % (n % 3)) for n in range(6)
    ]


def test_a_state_that_is_damaged(opened, tmp_path):
    """An invalid state file is an error that names it."""
    opened().write([record(0)])
    (tmp_path / "state").write_text("[1")
    with pytest.raises(SourceError, match="state"):
        NpyLogSource(path=tmp_path / "log", state=tmp_path / "state").open()


@pytest.mark.timeout(60 * ROUNDS)
def test_killed_at_any_moment(tmp_path):
    """After kill -9 what was synced is there and whole, and the next run goes on; again and again."""
    chance = random.Random(3)
    synced = 0
    for _ in range(ROUNDS):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, tmp_path / "log", str(max(0, synced - 7))], stdout=subprocess.PIPE, text=True
        )
        with child:
            for _ in range(chance.randrange(1, 40)):
                synced = int(child.stdout.readline())
            child.kill()
            synced = max([synced, *(int(line) for line in child.stdout.read().splitlines())])
        records, _, lost = replayed(path=tmp_path / "log")
        assert not lost
        assert [each.seq for each in records] == list(range(len(records)))
        assert len(records) >= synced
        assert all(each.data == b"%d" % each.seq for each in records)


def test_a_run_that_is_replayed(tmp_path):
    """A run that stores a log, and one that replays it, give the same records."""
    frames = ps.source([np.full((8, 8), n, "u2") for n in range(50)], channel="left")
    ps.Pipeline(frames >> ps.store("npy-log", path=str(tmp_path / "log"))).run(check=True)
    records = ps.Pipeline(ps.source("npy-log", path=str(tmp_path / "log"))).collect(check=True)
    assert [(each.channel, each.seq, int(each.data[0, 0])) for each in records] == [("left", n, n) for n in range(50)]


def test_the_directory_of_a_channel_is_removed(opened, tmp_path):
    """A log removed while it is written is reported at the next write and sync."""
    store = opened()
    store.write([record(0)])
    (path,) = Path(tmp_path / "log").rglob("*.log")
    path.unlink()
    with pytest.raises(StoreError, match="was removed"):
        store.write([record(1)])
    with pytest.raises(StoreError, match="was removed"):
        store.sync()
    store._state.channels.clear()
