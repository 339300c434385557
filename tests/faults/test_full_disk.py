"""A full disk: a store waits for it, or the dead letters take what it cannot; if those fail too, the run says so."""

from __future__ import annotations

import threading

import attrs
import numpy as np
import pytest

import penstock as ps
from penstock.dead_letters import read_dead_letters
from penstock.errors import EndOfSource
from penstock.recordlog import read_log
from penstock.testing.leaks import no_leaks
from penstock_lmdb.store import LmdbRecordStore

COUNT = 400
LENGTH = 10_000
"""Bytes of a record: all together do not fit before the disk is free again."""
PATIENT = ps.Retry(times=None, wait_initial_s=0.01, wait_max_s=0.05, jitter_s=0.01)
HASTY = ps.Retry(times=2, wait_initial_s=0.001, wait_max_s=0.001, jitter_s=0.001)


@pytest.fixture(autouse=True)
def _clean(tmp_path, monkeypatch):
    """No thread and no file stays open."""
    monkeypatch.chdir(tmp_path)
    with no_leaks():
        yield


@attrs.define(kw_only=True)
class Large:
    """Give arrays one by one; remember what was committed."""

    committed: list = attrs.field(factory=list, eq=False)
    next: int = 0

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        if self.next >= COUNT:
            raise EndOfSource("done")
        self.next += 1
        return [ps.Record(array(self.next - 1), channel="large", seq=self.next - 1)]

    def position(self):
        return self.next

    def commit(self, position):
        self.committed.append(position)

    def close(self):
        pass


def array(number):
    return np.full(LENGTH, number % 251, "uint8")


def started(store, dead):
    """Start a run into this store; return it and what was committed, of which the last is the most."""
    committed = []
    source = ps.source(Large(committed=committed), name="large")
    flow = source >> ps.edge(capacity=8) >> store
    return ps.Pipeline(flow, checkpoint_every_s=0.02, dead_letters=dead).start(), committed


def in_log(path):
    return [(record.seq, record.data) for _, record in read_log(path / "all.log")]


def in_npy(path):
    return [(int(file.stem), np.load(file)) for file in sorted((path / "npy").glob("*.npy"))]


def in_lmdb(path):
    store = LmdbRecordStore(path=path / "lmdb", readonly=True)
    store.open()
    found = [(record.seq, record.data) for record in map(store.get, store.keys())]
    store.close()
    return found


STORES = {
    "log": (lambda path, retry: ps.store("log", path=path / "all.log", name="store", retry=retry), in_log),
    "npy": (
        lambda path, retry: ps.store("npy", path=f"{path}/npy/{{{{ '%04d' % seq }}}}.npy", name="store", retry=retry),
        in_npy,
    ),
    "lmdb": (lambda path, retry: ps.store("lmdb", path=path / "lmdb", name="store", retry=retry), in_lmdb),
}


@pytest.mark.parametrize("kind", STORES)
def test_a_store_waits_for_a_full_disk(kind, disk, tmp_path):
    """With retries without end the source is not read until the disk has room; then nothing is missing, in order."""
    make, stored = STORES[kind]
    disk.fill(largest_file=LENGTH // 2 if kind == "npy" else disk.ROOM)
    run, committed = started(make(disk.path, PATIENT), tmp_path / "dead")
    tick = threading.Event()
    while run.stats().node("store").retries < 5:
        assert not run.finished, run.report
        tick.wait(0.01)
    node = run.stats().node("store")
    assert node.stored < COUNT
    assert max(committed, default=0) <= node.stored
    assert run.stats().node("large").received < COUNT
    disk.free()
    report = run.wait(60)
    assert report.ok, report
    assert report.stored == COUNT
    assert committed[-1] == COUNT
    found = stored(disk.path)
    assert [seq for seq, _ in found] == list(range(COUNT))
    assert all(np.array_equal(data, array(seq)) for seq, data in found)
    assert not (tmp_path / "dead").exists()


def test_what_a_full_disk_cannot_take_is_in_the_dead_letters(disk, tmp_path):
    """With few tries, each record is stored or in the dead letters, which lie on another disk; all is committed."""
    disk.fill()
    run, committed = started(STORES["log"][0](disk.path, HASTY), tmp_path / "dead")
    report = run.wait(60)
    assert report.balanced, report
    assert report.exit_code == 1
    assert report.lost == 0
    assert report.stored + report.dead_lettered == COUNT
    assert report.dead_lettered > 0
    stored = in_log(disk.path)
    letters = [letter.parent for letter in read_dead_letters(tmp_path / "dead")]
    assert sorted([seq for seq, _ in stored] + [record.seq for record in letters]) == list(range(COUNT))
    assert all(np.array_equal(record.data, array(record.seq)) for record in letters)
    assert committed[-1] == COUNT


def test_dead_letters_on_the_full_disk(disk):
    """If the dead letters cannot be written either, the run ends, commits nothing that is not stored, and says why."""
    disk.fill(largest_file=100 * LENGTH)
    run, committed = started(STORES["log"][0](disk.path, HASTY), disk.path / "dead")
    report = run.wait(60)
    assert report.balanced, report
    assert report.exit_code == 1
    assert report.lost > 0
    assert any("the dead letters failed too" in problem for problem in report.problems)
    stored = {seq for seq, _ in in_log(disk.path)}
    kept = {letter.parent.seq for letter in read_dead_letters(disk.path / "dead")}
    assert set(range(max(committed, default=0))) <= stored | kept
    assert max(committed, default=0) < COUNT


def test_dead_letters_that_cannot_begin_leave_nothing(disk):
    """Where not even the first letter finds room, each record is counted as lost, and no directory is left behind."""
    disk.exhaust()
    records = [ps.Record(object(), channel="odd", seq=seq) for seq in range(50)]
    flow = ps.source(records) >> (lambda each: 1 / 0) >> ps.store("null")
    report = ps.Pipeline(flow, dead_letters=disk.path / "dead").run()
    assert report.balanced, report
    assert report.lost == report.received > 0
    assert report.dead_lettered == 0
    assert report.dead_letters == ""
    assert len([problem for problem in report.problems if "the dead letters failed too" in problem]) == 1
    assert list((disk.path / "dead").iterdir()) == []
