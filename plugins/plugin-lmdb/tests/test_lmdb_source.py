"""B4: the lmdb source replays what a file holds, by time or key, at any pace, and goes on from a position."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time

import lmdb
import numpy
import pytest

import penstock as ps
from penstock.errors import EndOfSource, SourceError
from penstock.record import Record
from penstock.testing import SourceContract, no_leaks
from penstock_lmdb import Encoder, LmdbRecordStore, LmdbSource, LMDBStore


def fill(path, records, **settings):
    store = LmdbRecordStore(path=path, **settings)
    store.open()
    store.write(records)
    store.close()


@pytest.fixture
def filled(tmp_path):
    """A file with ten records, of which two each have the same time."""
    fill(
        tmp_path / "a.lmdb",
        [Record(numpy.full(3, n), channel="c", seq=n, time_ns=n // 2, coords={"t": n}) for n in range(10)],
    )


@pytest.mark.usefixtures("filled")
class TestLmdbSource(SourceContract):
    def make_source(self, tmp_path):
        return LmdbSource(path=tmp_path / "a.lmdb")

    def make_unopenable(self, tmp_path):
        return LmdbSource(path=tmp_path / "nothing.lmdb")


@pytest.mark.usefixtures("filled")
class TestLmdbSourceByKeyThatRemembers(SourceContract):
    remembers_commit = True

    def make_source(self, tmp_path):
        return LmdbSource(path=tmp_path / "a.lmdb", order="key", state=tmp_path / "state.json")


@pytest.mark.usefixtures("filled")
class TestLmdbSourceThatFollows(SourceContract):
    ends = False

    def make_source(self, tmp_path):
        return LmdbSource(path=tmp_path / "a.lmdb", follow=True)


def read_all(**settings):
    source = LmdbSource(**settings)
    source.open()
    found = []
    try:
        while True:
            found += source.read(7, 0.01)
    except EndOfSource:
        return found
    finally:
        source.close()


def test_b4_a_saved_run_is_replayed_in_time(tmp_path):
    """Objects of a run come as records in the order of their time, with name and queue, whatever their ids."""
    with LMDBStore(tmp_path, "run") as store:
        for n in range(30):
            store.put({"n": n}, f"q__Acquirer.q_out__{n}" if n % 2 else "frame", bytes([255 - n, 0]))
    found = list(ps.Pipeline(ps.source("lmdb", path=tmp_path / "run")).collect())
    assert [record.data["n"] for record in found] == list(range(30))
    assert found[1].metadata == {"name": "q__Acquirer.q_out__1", "queue": "Acquirer.q_out"}
    assert found[2].channel == found[2].metadata["name"] == "frame"
    assert all(one.time_ns < other.time_ns for one, other in itertools.pairwise(found))


def test_orders_and_selections(tmp_path):
    """Records come in the order of time or of keys; prefix, time and coordinates select."""
    path = tmp_path / "a.lmdb"
    fill(path, [Record(n, channel="ab"[n % 2], seq=n, time_ns=-n, coords={"t": n}) for n in range(20)])
    assert [record.data for record in read_all(path=path)] == list(range(19, -1, -1))
    assert [record.data for record in read_all(path=path, order="key")] == [*range(0, 20, 2), *range(1, 20, 2)]
    assert [record.data for record in read_all(path=path, prefix="b/", order="key")] == list(range(1, 20, 2))
    assert [record.data for record in read_all(path=path, coords={"t": [3, 6]})] == [5, 4, 3]
    assert [record.data for record in read_all(path=path, from_ns=-4, to_ns=-1)] == [4, 3, 2]


@pytest.mark.parametrize("order", ["time", "key"])
def test_pace(tmp_path, order):
    """With a pace records come as far apart as they were recorded, divided by it, and not before."""
    path = tmp_path / "a.lmdb"
    fill(path, [Record(n, channel="c", seq=n, time_ns=n * 1_000_000_000) for n in range(4)])
    began = time.monotonic()
    assert len(read_all(path=path, order=order, pace=10.0)) == 4
    assert 0.3 <= time.monotonic() - began < 3
    source = LmdbSource(path=path, pace=0.001, order=order)
    source.open()
    assert len(source.read(10, 0)) == 1
    began = time.monotonic()
    assert source.read(10, 0.02) == ()
    assert time.monotonic() - began < 5
    source.close()


def test_follow_gives_what_another_store_writes(tmp_path):
    """A source that follows gives what another process writes, soon after it was written."""
    path = tmp_path / "a.lmdb"
    fill(path, [Record(0, channel="c", time_ns=1)])
    source = LmdbSource(path=path, follow=True)
    with no_leaks():
        source.open()
        assert [record.data for record in source.read(10, 1)] == [0]
        code = (
            "import sys; from penstock.record import Record; from penstock_lmdb import LmdbRecordStore as S\n"
            "s = S(path=sys.argv[1]); s.open(); s.write([Record(1, channel='c', seq=1, time_ns=2)]); s.close()"
        )
        writer = subprocess.Popen([sys.executable, "-c", code, path])
        assert [record.data for record in source.read(10, 60)] == [1]
        assert writer.wait(60) == 0
        source.close()


def test_damaged_records_are_left_out_and_counted(tmp_path):
    """A value that is not a record, or needs an encoder, costs itself and is counted as rejected."""
    path = tmp_path / "a.lmdb"
    fill(path, [Record(n, channel="c", seq=n, time_ns=n) for n in range(3)])
    with lmdb.open(str(path), subdir=False, max_dbs=20) as env, env.begin(write=True) as transaction:
        transaction.put(b"c/000000000001", b"noise", db=env.open_db(b"records", txn=transaction))
    source = LmdbSource(path=path)
    source.open()
    assert [record.data for record in source.read(10, 0)] == [0, 2]
    assert source.rejected() == 1
    source.close()


class Own:
    def __init__(self, number):
        self.number = number


def test_encoders(tmp_path):
    """Objects of types of one's own come back by an encoder that is given to the source."""
    encoder = Encoder("test.own", Own, lambda own: own.number, Own)
    with LMDBStore(tmp_path, "run", encoders=[encoder]) as store:
        store.put(Own(7), "own")
    (record,) = read_all(path=tmp_path / "run", encoders=[encoder])
    assert record.data.number == 7
    assert read_all(path=tmp_path / "run") == []


def test_what_cannot_be_opened(tmp_path):
    """A missing file and a damaged state are a SourceError with the path, and leave nothing open."""
    with no_leaks():
        with pytest.raises(SourceError, match="does not exist"):
            LmdbSource(path=tmp_path / "nothing.lmdb").open()
        fill(tmp_path / "a.lmdb", [Record(1)])
        (tmp_path / "state").write_text("{nonsense")
        with pytest.raises(SourceError, match="not the state of an lmdb source"):
            LmdbSource(path=tmp_path / "a.lmdb", state=tmp_path / "state").open()


def test_a_replay_goes_on_after_a_commit(tmp_path):
    """A pipeline that replays with a state file goes on where the last run was committed."""
    path, seen = tmp_path / "a.lmdb", []

    def replay():
        replayed = ps.source("lmdb", path=path, state=tmp_path / "state.json")
        ps.Pipeline(replayed >> ps.processor(lambda record: seen.append(record.data))).run()

    fill(path, [Record(n, channel="c", seq=n, time_ns=n) for n in range(10)])
    for _ in range(2):
        replay()
        assert len(seen) == 10
    fill(path, [Record(n, channel="c", seq=n, time_ns=n) for n in range(10, 15)])
    replay()
    assert seen == list(range(15))
