"""`kill -9` at random moments: a store that only appends holds each record once, since positions are kept with them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import pytest

import penstock as ps
from penstock.errors import EndOfSource
from penstock_lmdb import LmdbRecordStore
from penstock_lmdb.uncovered import is_alive

COUNT = 3000
KILLS = 100 if os.environ.get("PENSTOCK_FAULTS") == "full" else 5
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); import test_lmdb_exactly_once as t; t.main(*sys.argv[2:])"


@attrs.define(kw_only=True)
class Numbers:
    """Return numbers; start over unless seek is called. Times are current, so no repeated record is equal."""

    upto: int
    _next: int = attrs.field(default=0, init=False)

    def open(self):
        self._next = 0

    def read(self, max_records, timeout_s):
        if self._next >= self.upto:
            raise EndOfSource("done")
        first, self._next = self._next, min(self._next + 5, self.upto)
        threading.Event().wait(0.0005)  # so that a run is longer than most of its kills come late
        return [ps.Record(n, channel="n", seq=n, time_ns=random.getrandbits(40)) for n in range(first, self._next)]

    def position(self):
        return self._next

    def commit(self, position):
        pass

    def seek(self, position):
        self._next = position

    def close(self):
        pass


def main(path, place):
    store = ps.store("lmdb", path=path, key_by="sequence", flush_each="sync", place=place)
    flow = ps.source(Numbers(upto=COUNT), name="numbers") >> store
    run = ps.Pipeline(flow, checkpoint_every_s=0.02).start()
    print("at work", flush=True)
    run.wait()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("place", ["thread", "process"])
def test_b3_each_record_once_after_every_kill(tmp_path, place):
    """After kills at random moments, and a run that is let end, every record is there once and in order."""
    path, chance, kills = tmp_path / "a.lmdb", random.Random(), 0
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(path), place]
    while kills < KILLS:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            if chance.random() < 0.9:
                assert process.stdout.readline() == "at work\n"
            try:
                process.wait(chance.uniform(0, 0.6))
                assert process.returncode == 0
                path.unlink()  # all done: from the beginning
                path.with_name("a.lmdb-lock").unlink()
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
    subprocess.run(command, check=True, timeout=300, stdout=subprocess.PIPE)
    with_numbers = LmdbRecordStore(path=path, readonly=True)
    with_numbers.open()
    found = [with_numbers.get(key).data for key in list(with_numbers.keys())]
    with_numbers.close()
    assert found == list(range(COUNT))


@pytest.fixture
def make(tmp_path):
    stores = []

    def make_store(**settings):
        store = LmdbRecordStore(path=tmp_path / "a.lmdb", **settings)
        store.open()
        stores.append(store)
        return store

    yield make_store
    for store in stores:
        store.close()


def records(*numbers, time_ns=0):
    return [ps.Record(n, channel="c", seq=n, time_ns=time_ns, coords={"t": n}) for n in numbers]


@pytest.mark.parametrize("how", [{"key_by": "sequence"}, {"when_exists": "replace"}, {}])
def test_what_no_position_covers_is_taken_back(make, how):
    """What followed the last positions is undone when the store is opened for the next run: puts, replaces, deletes."""
    store = make(**how)
    store.positions()
    store.write(records(0, 1, 2))
    store.sync_with({"source": 3})
    covered = {key: store.get(key).time_ns for key in list(store.keys())}
    store.write(records(3, 4, time_ns=9))
    if how.get("when_exists") == "replace":
        store.write(records(1, time_ns=9))
    store.delete(next(iter(covered)))
    store.close()
    store = make(**how)
    assert len(store) == 4
    assert dict(store.positions()) == {"source": 3}
    assert {key: store.get(key).time_ns for key in list(store.keys())} == covered
    assert len(list(store.keys(t=slice(0, 9)))) == 3
    assert len(list(store.query(order="time"))) == 3
    store.write(records(3, 4))
    store.sync_with({"source": 5})
    assert [store.get(key).data for key in list(store.keys())] == [0, 1, 2, 3, 4]


def test_nothing_is_taken_back_without_positions(make):
    """Records synced or closed without positions stay, even if positions are requested later."""
    store = make()
    assert store.positions() == {}
    store.write(records(0, 1))
    store.sync()
    store.write(records(2))
    store.close()
    store = make()
    assert store.positions() == {}
    store.write(records(3))
    store.sync_with({})  # sources that have no positions
    store.write(records(4))
    store.close()
    store = make()
    assert store.positions() == {}
    assert len(store) == 5


def test_a_living_writer_keeps_what_it_wrote(make, tmp_path):
    """Another process that opens the file for a run takes back nothing of a store that is still open."""
    store = make()
    store.positions()
    store.sync_with({"source": 0})
    store.write(records(0, 1))
    code = (
        "import sys; from penstock_lmdb import LmdbRecordStore\n"
        "store = LmdbRecordStore(path=sys.argv[1]); store.open(); print(store.positions(), len(store)); store.close()"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.lmdb"], capture_output=True, text=True, timeout=60)
    assert done.stdout == "{'source': 0} 2\n", done.stderr
    assert len(store) == 2


def test_a_zombie_is_not_alive():
    """A process that has ended and that nobody has waited for yet does not count as a writer that lives."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    assert fields[0] == "Z"
    assert not is_alive(f"{process.pid}:{fields[19]}:0")
    process.wait()
