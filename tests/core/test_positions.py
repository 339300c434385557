"""A source is committed only up to records that the run has received and made durable."""

from __future__ import annotations

import json

import attrs
import pytest

import penstock as ps
from penstock.builtin.files import FilesSource
from penstock.builtin.memory import MemoryStore
from penstock.errors import EndOfSource

ONCE = ps.Retry(times=1)


class Tape:
    """Returns numbers in lists of ten. The read of `fails_at` loses its list; `rewinds` when it is reopened."""

    def __init__(self, *, fails_at=None, rewinds=True, seeks=False, spoils=None):
        self.fails_at, self.rewinds, self.spoils = fails_at, rewinds, spoils
        self.committed, self.next, self.opened = 0, 0, 0
        if seeks:
            self.seek = self._seek

    def open(self):
        self.opened += 1
        if self.rewinds or self.opened == 1:
            self.next = self.committed

    def read(self, max_records, timeout_s):
        if self.next >= 40:
            raise EndOfSource("end")
        first = self.next
        self.next = min(40, first + min(max_records, 10))
        given = [ps.Record(n, seq=n, channel="c") for n in range(first, self.next)]
        if self.fails_at is not None and self.next > self.fails_at:
            self.fails_at = None
            raise OSError("the cable is loose")
        if self.spoils is not None and self.next > self.spoils:
            self.spoils = None
            return None
        return given

    def position(self):
        return self.next

    def commit(self, position):
        self.committed = position

    def _seek(self, position):
        self.next = position

    def close(self):
        pass


def run(source, store, *, retry=None, **settings):
    """Run a source into a store, with many checkpoints."""
    quick = ps.Retry(times=retry or 3, wait_initial_s=0.001, wait_max_s=0.001, jitter_s=0.001)
    flow = ps.source(source, retry=quick) >> ps.store(store, retry=ONCE)
    return ps.Pipeline(flow, checkpoint_every_s=0.002, **settings).run()


class Kept:
    """Keeps written records; `sync` raises as often as requested."""

    takes = "any"

    def __init__(self, *, fail_syncs=0):
        self.records, self.durable, self.fail_syncs = [], 0, fail_syncs

    def open(self):
        pass

    def write(self, records):
        self.records += records

    def sync(self):
        if self.fail_syncs > 0:
            self.fail_syncs -= 1
            raise OSError(28, "No space left on device")
        self.durable = len(self.records)

    def close(self):
        pass


@pytest.mark.parametrize("how", ["fails_at", "spoils"])
@pytest.mark.parametrize("kind", [{"seeks": True, "rewinds": False}, {"rewinds": True}], ids=["seeks", "rewinds"])
def test_a_read_that_fails_moves_nothing(how, kind):
    """A list lost in a failed read, or that is not a list of records, is read again before it is committed."""
    source, store = Tape(**{how: 25}, **kind), Kept()
    run(source, store)
    assert {record.data for record in store.records} == set(range(40))
    assert source.committed == 40


@pytest.mark.parametrize("how", ["fails_at", "spoils"])
def test_a_source_that_goes_on_behind_its_failure_is_not_committed(how):
    """If a source cannot return to the records of a failed read, the report says so, and they are not committed."""
    source, store = Tape(**{how: 25}, rewinds=False), Kept()
    report = run(source, store)
    missing = set(range(40)) - {record.data for record in store.records}
    assert missing
    assert source.committed <= min(missing)
    assert not report.ok
    assert any("cannot seek" in error for error in report.errors)


def test_a_source_whose_last_read_failed_is_committed_up_to_it():
    """After the last retry, records before the failed read are committed, and none of that read."""
    source, store = Tape(fails_at=25, rewinds=False), Kept()
    report = run(source, store, retry=1)
    assert source.committed == len(store.records) == store.durable
    assert source.committed <= 25
    assert not report.ok


@pytest.mark.parametrize("neighbour", [False, True], ids=["alone", "beside another"])
def test_nothing_is_committed_over_a_store_whose_last_sync_failed(neighbour):
    """Records that a store could not make durable at its end are not committed, even if other stores could."""
    source, bad, good = Tape(), Kept(fail_syncs=1000), Kept()
    frames = ps.source(source)
    flows = [frames >> ps.store(bad, retry=ONCE)] + [frames >> ps.store(good)] * neighbour
    report = ps.Pipeline(*flows).run()
    assert len(bad.records) == 40
    assert source.committed == 0
    assert not report.ok


def test_a_sync_that_works_at_the_next_checkpoint_commits():
    """A disk that is full for a moment delays the commit, and no more."""
    source, store = Tape(), Kept(fail_syncs=1)
    gate = ps.processor(lambda record: record)
    ps.Pipeline(ps.source(source) >> gate >> ps.store(store, retry=ps.Retry(times=3, wait_initial_s=0.001))).run()
    assert source.committed == store.durable == 40


@attrs.define(eq=False)
class Transactional(Kept):
    """Keeps the positions of its sources, too."""

    records: list = attrs.field(factory=list)
    kept: dict = attrs.field(factory=dict)
    durable: int = 0
    fail_syncs: int = 0

    def sync_with(self, positions):
        self.sync()
        self.kept.update(positions)

    def positions(self):
        return dict(self.kept)


@pytest.mark.parametrize("seeks", [False, True])
def test_a_transactional_store_keeps_no_position_that_another_store_has_not_reached(seeks):
    """The position in a transactional store is never ahead of another store, whose sync fails."""
    source, ledger, bad = Tape(seeks=seeks), Transactional(), Kept(fail_syncs=1000)
    frames = ps.source(source, name="tape")
    flows = (frames >> ps.store(ledger, name="ledger"), frames >> ps.store(bad, retry=ONCE))
    ps.Pipeline(*flows, checkpoint_every_s=0.001).run()
    assert len(ledger.records) == 40
    assert ledger.kept.get("tape", 0) == 0


def files(tmp_path, **settings):
    return FilesSource(directory=tmp_path / "in", state=tmp_path / "state.json", **settings)


def stored(tmp_path):
    """Run the files through; return the results."""
    store = Kept()
    report = ps.Pipeline(ps.source(files(tmp_path)) >> ps.store(store)).run()
    return report, [record.metadata["path"] for record in store.records]


def test_files_that_come_late_are_read_wherever_their_names_sort(tmp_path):
    """After a run, new or renamed files are read, whether they sort before the last one or after it."""
    (tmp_path / "in").mkdir()
    for name in ("b", "d"):
        (tmp_path / "in" / name).write_text(name)
    assert stored(tmp_path)[1] == ["b", "d"]
    for name in ("a", "c", "e"):
        (tmp_path / "in" / name).write_text(name)
    (tmp_path / "in" / "d").rename(tmp_path / "in" / "bb")
    assert stored(tmp_path)[1] == ["a", "bb", "c", "e"]
    assert stored(tmp_path)[1] == []
    assert json.loads((tmp_path / "state.json").read_text())["files"].count("b") == 1


def test_a_file_keeps_its_number_whatever_others_do(tmp_path):
    """The seq of a file does not change when others are added before it or removed."""
    (tmp_path / "in").mkdir()
    numbers = []
    for name in ("m", "a", "z"):
        (tmp_path / "in" / name).write_text(name)
        source = FilesSource(directory=tmp_path / "in")
        source.open()
        numbers.append({record.metadata["path"]: record.seq for record in source.read(10, 1.0)})
        source.close()
    assert numbers[0]["m"] == numbers[1]["m"] == numbers[2]["m"]
    assert len(set(numbers[2].values())) == 3


def test_a_state_of_an_earlier_version_is_read(tmp_path):
    """A state file with only the name of the last file covers all that sort up to it."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "in" / name).write_text(name)
    (tmp_path / "state.json").write_text('{"done": "b"}')
    assert stored(tmp_path)[1] == ["c"]


def test_a_file_that_is_gone_costs_itself(tmp_path):
    """A file that vanishes between listing and reading is counted; those before and after it are read."""
    (tmp_path / "in").mkdir()
    for number in range(100):
        (tmp_path / "in" / f"{number:03d}").write_text(str(number))
    store = MemoryStore()

    def remove_some(record):
        for name in ("050", "060", "070", "080", "099"):
            (tmp_path / "in" / name).unlink(missing_ok=True)
        return record

    flow = ps.source(files(tmp_path)) >> ps.processor(remove_some) >> ps.store(store)
    report = ps.Pipeline(flow).run()
    assert report.stored == report.received == 95
    assert report.lost_upstream == 5
    assert not report.ok


def test_a_file_that_cannot_be_read_holds_up_what_is_behind_it_and_loses_nothing(tmp_path):
    """The files before an unreadable one are read, and nothing after it is committed."""
    (tmp_path / "in").mkdir()
    for number in range(20):
        (tmp_path / "in" / f"{number:03d}").write_text(str(number))

    @attrs.define(kw_only=True)
    class Scratched(FilesSource):
        def _read(self, name):
            if name == "013":
                raise OSError(5, "Input/output error")
            return FilesSource._read(self, name)

    store = Kept()
    source = ps.source(Scratched(directory=tmp_path / "in", state=tmp_path / "state.json"), retry=ONCE)
    report = ps.Pipeline(source >> ps.store(store)).run()
    assert [record.metadata["path"] for record in store.records] == [f"{number:03d}" for number in range(13)]
    assert json.loads((tmp_path / "state.json").read_text())["done"] == "012"
    assert not report.ok
