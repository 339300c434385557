"""Two lists on their way to a process: it need not wait for the next, and nothing is lost or done twice if it dies."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.codec import encoded_size
from penstock.errors import CodecError
from penstock.run.process.asking import ahead
from penstock.run.process.asking.worker_process import WorkerProcess
from penstock.testing.strategies import records

FULL = os.environ.get("PENSTOCK_FAULTS") == "full"


@pytest.fixture
def two_on_their_way(monkeypatch):
    """An event that is set when a process has been sent a list while it works at another."""
    there = threading.Event()
    send = WorkerProcess.send

    def noted(self, call, *arguments, **words):
        sent = send(self, call, *arguments, **words)
        if call == "run" and self._unanswered == 2:
            there.set()
        return sent

    monkeypatch.setattr(WorkerProcess, "send", noted)
    return there


def held_at(there, tmp_path, number):
    """Return a step that waits at this record, and the files by which it says so and is let go."""
    here, until = tmp_path / "here", tmp_path / "until"
    return there("Held", number=number, here=str(here), until=str(until)), here, until


def test_the_next_list_is_sent_before_the_answer(lead, there, tmp_path, two_on_their_way):
    """While the process works at one list, the next one is on its way; results keep their order."""
    step, _, until = held_at(there, tmp_path, 0)
    with ps.Pipeline(lead.flow(step, items=range(500))).start() as run:
        assert two_on_their_way.wait(60)
        assert lead.got == []
        until.touch()
    assert run.report.ok, run.report
    assert lead.data == list(range(500))


def test_both_lists_are_known_when_it_dies(lead, there, tmp_path, two_on_their_way):
    """Killed with two lists on their way, the process is followed by one that does both, once and in order."""
    step, here, until = held_at(there, tmp_path, 0)
    with ps.Pipeline(lead.flow(step, items=range(500))).start() as run:
        assert two_on_their_way.wait(60)
        while not here.exists() or not here.read_text():
            run.wait(0.005)
        until.touch()
        os.kill(int(here.read_text()), signal.SIGKILL)
    assert run.report.ok, run.report
    assert lead.data == list(range(500))
    assert run.report.account.node("Held").restarts == 1


def test_both_lists_are_counted_when_the_run_is_aborted(lead, there, tmp_path, two_on_their_way):
    """An abort loses what is on its way to a process, and counts it."""
    step, here, _ = held_at(there, tmp_path, 0)
    run = ps.Pipeline(lead.flow(step, items=range(500))).start()
    assert two_on_their_way.wait(60)
    while not here.exists():
        run.wait(0.005)
    report = run.stop(drain=False)
    assert report.balanced, report
    assert report.lost == report.received
    assert report.account.node("Held").lost >= 2


def test_a_barrier_waits_for_both(there, tmp_path, two_on_their_way):
    """What is on its way to a process is not committed before it is stored."""
    committed = tmp_path / "committed"
    step, here, until = held_at(there, tmp_path, 20)
    source = ps.source("placed:Counted", path=str(committed), count=200)
    stored = ps.store("memory")
    with ps.Pipeline(source >> step >> stored, checkpoint_every_s=0.02).start() as run:
        assert two_on_their_way.wait(60)
        while not here.exists():
            run.wait(0.005)
        run.wait(0.1)  # several checkpoints are due meanwhile
        held_back = int(committed.read_text() if committed.exists() else 0)
        until.touch()
    assert held_back <= 20
    assert run.report.ok, run.report
    assert committed.read_text() == "200"


@pytest.mark.parametrize("turn", range(20 if FULL else 2))
def test_killed_again_and_again(lead, there, turn, endless):
    """Killed at any moment, any number of times, with one or two workers: every record comes once, in order."""
    chance = random.Random(turn)
    gate = threading.Event()
    step = there("whoami", workers=1 + turn % 2)
    with ps.Pipeline(lead.flow(step, items=ps.source(endless(gate), name="source"))).start() as run:
        for _ in range(6 if FULL else 3):
            enough = len(lead.got) + chance.randrange(1, 3000)
            while len(lead.got) < enough:
                run.wait(0.002)
            with contextlib.suppress(ProcessLookupError):  # its last records may come when it is dead already
                os.kill(lead.got[-1].metadata["process"], signal.SIGKILL)
        gate.set()
    report = run.report
    assert report.balanced, report
    assert report.received == len(lead.got) + report.dead_lettered
    missing = sorted(set(range(report.received)) - {record.data for record in lead.got})
    assert len(missing) == report.dead_lettered
    assert lead.data == sorted(set(lead.data))


@settings(max_examples=300, deadline=None)
@given(st.lists(records(), min_size=1, max_size=5), st.integers(200, 4000))
def test_what_goes_ahead_is_small_enough(some, limit):
    """Records that may go ahead take no more bytes than the limit, whatever they hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead, "AHEAD_BYTES", limit)
        if not ahead.may_go_ahead(some):
            return
        try:
            size = sum(-(-encoded_size(record) // 64) * 64 for record in some)
        except CodecError:
            return
        assert size <= limit


def test_what_is_large_or_odd_does_not_go_ahead():
    """Frames, parents, objects, and arrays that show more than they hold wait for the answer before them."""
    import numpy as np

    big = np.zeros((1080, 1920, 3), np.uint8)
    assert ahead.may_go_ahead([ps.Record(b"x" * 1024, channel="c", seq=n) for n in range(1000)])
    for odd in (
        ps.Record(big),
        ps.Record(np.broadcast_to(np.zeros(1), (3000, 3000))),
        ps.Record(1, parent=ps.Record(big)),
        ps.Record({"frame": big}),
        ps.Record(1, metadata={"frame": big}),
        ps.Record(b"x" * 2**22),
        ps.Record("å" * 2**20),
        ps.Record(1, channel="c" * 2**22),
        ps.Record(2 ** (8 * 2**22)),
    ):
        assert not ahead.may_go_ahead([ps.Record(0), odd, ps.Record(1)])


@pytest.mark.parametrize("killed", [None, 0, 1])
def test_frames_pass_from_process_to_process(lead, there, killed):
    """Frames that one process made and another leaves as they are arrive whole, even if one of the two is killed."""
    import numpy as np

    frames = [np.full((300, 400), n % 200, np.uint8) for n in range(60)]
    seen = []

    def kill(record):
        seen.append((record.metadata["first"], record.metadata["process"]))
        if killed is not None and len(seen) == 20:
            os.kill(seen[-1][killed], signal.SIGKILL)
        return record

    report = lead(there("negative_by"), there("whoami"), kill, items=frames)
    assert report.ok, report
    assert [record.seq for record in lead.got] == list(range(60))
    assert [int(record.data[0, 0]) for record in lead.got] == [255 - n % 200 for n in range(60)]
    assert all((record.data == record.data[0, 0]).all() for record in lead.got)
    del frames
    seen.clear()
