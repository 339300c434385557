"""Only durable records are committed, even if nodes are replaced or removed, or the dead letters fail."""

from __future__ import annotations

import threading

import pytest
from tests.core.runs import Numbers
from tests.core.test_positions import ONCE, Kept, Tape

import penstock as ps
from penstock.run.steps.dead_letters import DeadLetters

LONG_S = 30.0


class Gated(Tape):
    """Returns its last ten numbers only once it is released."""

    def __init__(self):
        super().__init__()
        self.gate, self.waits = threading.Event(), threading.Event()

    def read(self, max_records, timeout_s):
        if self.gate.is_set():
            return super().read(max_records, timeout_s)
        if self.next == 30:
            self.waits.set()
            self.gate.wait(timeout_s)
            return ()
        return super().read(min(max_records, 30 - self.next), timeout_s)


class Filled(Kept):
    """Reports when it has the first thirty records."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.full = threading.Event()

    def write(self, records):
        super().write(records)
        if len(self.records) >= 30:
            self.full.set()


def started(source, *stores):
    frames = ps.source(source, name="tape")
    flows = [frames >> ps.edge(capacity=100) >> ps.store(store, name=name, retry=ONCE) for name, store in stores]
    return ps.Pipeline(*flows, checkpoint_every_s=1000.0).start()


def test_a_replaced_store_that_cannot_sync_stays_and_holds_the_commit_up():
    """A store whose sync fails at its replacement keeps working; nothing is committed beyond its durable records."""
    source, bad, good = Gated(), Filled(fail_syncs=1000), Kept()
    with started(source, ("bad", bad)) as run:
        assert bad.full.wait(LONG_S)
        with pytest.raises(ps.errors.RunError, match="No space left"):
            run.replace("bad", ps.store(good))
        source.gate.set()
        report = run.wait(LONG_S)
    assert (len(bad.records), len(good.records)) == (40, 0)
    assert source.committed == 0
    assert not report.ok


def test_a_store_that_was_replaced_is_durable_before_its_records_are_committed():
    """Records of the replaced store were synced, later ones are in the new one, and all are committed."""
    source, old, new = Gated(), Filled(), Kept()
    with started(source, ("kept", old)) as run:
        assert old.full.wait(LONG_S)
        run.replace("kept", ps.store(new))
        source.gate.set()
        report = run.wait(LONG_S)
    assert report.ok, report
    assert old.durable == len(old.records)
    assert new.durable == len(new.records)
    assert len(old.records) + len(new.records) == source.committed == 40


def test_nothing_is_committed_over_a_removed_store_that_could_not_sync():
    """A removed store that cannot make its records durable prevents their commit."""
    source, bad, good = Gated(), Filled(fail_syncs=1000), Kept()
    with started(source, ("bad", bad), ("good", good)) as run:
        assert bad.full.wait(LONG_S)
        run.remove("bad")
        source.gate.set()
        report = run.wait(LONG_S)
    assert source.committed == 0
    assert not report.ok


def test_each_of_two_sources_is_committed_as_far_as_it_gave():
    """A replaced source is committed up to its last record, the new one up to its end, and each is closed."""
    old, new, kept = Gated(), Numbers(count=50), Kept()
    with started(old, ("kept", kept)) as run:
        assert old.waits.wait(LONG_S)
        run.replace("tape", ps.source(new))
        report = run.wait(LONG_S)
    assert report.ok, report
    assert old.committed == 30
    assert new.committed[-1] == 50
    assert new.closed
    assert len(kept.records) == kept.durable == 80


def test_nothing_is_committed_over_dead_letters_that_could_not_sync(monkeypatch, tmp_path):
    """Records that are only in the dead letters are not committed if these are not durable."""

    def fail(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DeadLetters, "sync", fail)
    source = Tape()
    odd = ps.processor(lambda record: record if record.data % 2 else 1 / 0, name="odd")
    flow = ps.source(source) >> odd >> ps.store(Kept())
    report = ps.Pipeline(flow, checkpoint_every_s=0.002, dead_letters=tmp_path).run()
    assert report.dead_lettered == 20
    assert source.committed == 0
    assert not report.ok
    assert any("No space left" in error for error in report.errors)
