"""A store that keeps the sources' positions with its records: after a crash, each record is stored exactly once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import pytest

import penstock as ps
from penstock.errors import EndOfSource

CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
import test_transactions as t
print("ready", flush=True)
t.pipeline(sys.argv[2], int(sys.argv[3])).run()
"""


@attrs.define(kw_only=True)
class Counted:
    """Return numbers; start over unless seek is called."""

    count: int
    channel: str
    _next: int = attrs.field(default=0, init=False)

    def open(self):
        self._next = 0

    def read(self, max_records, timeout_s):
        if self._next >= self.count:
            raise EndOfSource("done")
        upto = min(self.count, self._next + min(max_records, 3))
        records = [ps.Record(n, channel=self.channel, seq=n) for n in range(self._next, upto)]
        self._next = upto
        threading.Event().wait(0.0002)
        return records

    def position(self):
        return self._next

    def commit(self, position):
        pass

    def seek(self, position):
        self._next = position

    def close(self):
        pass


@attrs.define(kw_only=True)
class Ledger:
    """Insert rows, without any key; commit them together with the positions."""

    path: str
    _db: object = attrs.field(default=None, init=False)

    def open(self):
        self._db = sqlite3.connect(self.path)
        self._db.execute("create table if not exists rows (channel text, n integer)")
        self._db.execute("create table if not exists positions (source text primary key, position integer)")
        self._db.commit()

    def write(self, records):
        self._db.executemany("insert into rows values (?, ?)", [(each.channel, each.data) for each in records])

    def sync(self):
        raise AssertionError("a transactional store is synced with positions")

    def sync_with(self, positions):
        self._db.executemany("insert or replace into positions values (?, ?)", list(positions.items()))
        self._db.commit()

    def positions(self):
        return dict(self._db.execute("select source, position from positions"))

    def close(self):
        if self._db is not None:
            self._db.close()
            self._db = None


def pipeline(path, count):
    """Two sources into one ledger, through a worker pair, with many checkpoints."""
    sources = [ps.source(Counted(count=count, channel=name), name=name) for name in ("left", "right")]
    flow = sources >> ps.processor(lambda record: record, workers=2, name="work") >> ps.store(Ledger(path=path))
    return ps.Pipeline(flow, checkpoint_every_s=0.003)


def rows(path):
    db = sqlite3.connect(path)
    try:
        return {
            name: [n for (n,) in db.execute("select n from rows where channel = ?", (name,))]
            for name in ("left", "right")
        }
    finally:
        db.close()


def test_a_run_that_ends_has_everything_once(tmp_path):
    """Without any crash, all rows are there, in order, and so are the last positions."""
    path = str(tmp_path / "ledger.db")
    report = pipeline(path, 500).run()
    assert report.ok, report
    assert rows(path) == {"left": list(range(500)), "right": list(range(500))}
    assert pipeline(path, 500).run().stored == 0


@pytest.mark.parametrize("kills", [6])
def test_killed_again_and_again_every_row_is_there_once(tmp_path, kills):
    """After kills at any moment and restarts until it ends, no row is missing or repeated, without any key."""
    path, count = str(tmp_path / "ledger.db"), 3000
    command = [sys.executable, "-c", CHILD, os.path.dirname(__file__), path, str(count)]
    for kill in range(kills):
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        child.stdout.readline()
        try:
            child.wait(timeout=0.05 + 0.06 * kill)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        child.wait(30)
        child.stdout.close()
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert rows(path) == {"left": list(range(count)), "right": list(range(count))}


@attrs.define(kw_only=True)
class Saved(Counted):
    """Return numbers, from the committed one on; positions are numbers, or texts that hold one."""

    path: str
    text: bool

    def open(self):
        self._next = int(Path(self.path).read_text()) if os.path.exists(self.path) else 0

    def position(self):
        return str(self._next) if self.text else self._next

    def commit(self, position):
        Path(self.path).write_text(str(position))

    def seek(self, position):
        self._next = int(position)


class Late:
    """A store whose sync comes after that of the ledger."""

    def __init__(self, ledger_synced):
        self.ledger_synced = ledger_synced

    def open(self):
        pass

    def write(self, records):
        pass

    def sync(self):
        assert self.ledger_synced.wait(20)

    def close(self):
        pass


@pytest.mark.parametrize("text", [False, True])
def test_a_source_never_begins_before_its_own_commit(tmp_path, text):
    """If another store syncs last, a ledger keeps an earlier position; the source begins at its committed one."""
    synced = threading.Event()

    class First(Ledger):
        def sync_with(self, positions):
            super().sync_with(positions)
            synced.set()

    def run(count, most=2):
        synced.clear()
        source = ps.source(Saved(count=count, channel="left", path=str(tmp_path / "state"), text=text), name="left")
        stores = [ps.store(First(path=str(tmp_path / "ledger.db"))), ps.store(Late(synced))]
        return ps.Pipeline(source >> stores[:most], checkpoint_every_s=60).run()

    for count, most in ((10, 1), (20, 2), (30, 2)):
        report = run(count, most)
        assert report.ok, report
        assert report.account.node("left").received == 10
    assert run(30).account.node("left").received == 0


def test_a_source_that_does_not_know_its_position_yet_begins_beside_a_ledger(tmp_path):
    """A position that raises before the first read does not prevent a start, with a kept position and two stores."""

    class Unsure(Saved):
        def open(self):
            super().open()
            self.knows = False

        def read(self, max_records, timeout_s):
            self.knows = True
            return super().read(max_records, timeout_s)

        def position(self):
            if not self.knows:
                raise RuntimeError("nothing was read")
            return super().position()

    path = str(tmp_path / "ledger.db")
    for count, stores in ((10, []), (20, [ps.store("null")])):
        source = ps.source(Unsure(count=count, channel="left", path=str(tmp_path / "state"), text=False), name="left")
        report = ps.Pipeline(source >> [ps.store(Ledger(path=path)), *stores], checkpoint_every_s=60).run()
        assert report.ok, report
        assert report.account.node("left").received == 10
