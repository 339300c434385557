"""A source in a process tells the run everything that it tells it in a thread."""

from __future__ import annotations

import pytest

import penstock as ps
from penstock.run.lanes.source_lane import READ_TIMEOUT_S
from penstock.run.process.asking.remote_source import remote_source
from penstock.run.source_reports import POSITIONS, REPORTS
from penstock.source import SupportsEndSoon, SupportsRefusal


def _but_five(record):
    if record.data == 5:
        raise ValueError("five")
    return record


def _run(place, tmp_path, *, on_error="dead_letter"):
    source = ps.source("placed:Reporting", path=str(tmp_path / place), name="source", place=place)
    flow = source >> ps.processor(_but_five, name="but", on_error=on_error) >> ps.store("null", name="end")
    with ps.Pipeline(flow, dead_letters=tmp_path / f"dead-{place}").start() as run:
        while run.stats().node("end").stored < 7:
            run.wait(0.02)
    return run.report


def test_everything_a_source_reports_is_in_the_report(placed, tmp_path):
    """Remarks, notes, losses, lags, refused messages, marks and the wish to end are those of a thread."""
    here, there = _run("thread", tmp_path), _run("process", tmp_path)
    assert there.balanced
    assert (
        there.notes == here.notes == ["node 'source' (placed): noted after 12", "node 'source' (placed): closed: True"]
    )
    assert there.doubts == here.doubts
    assert "remarked after 12, closed: True" in there.doubts[0]
    assert there.errors == here.errors == ()
    first, second = (each.account.node("source") for each in (here, there))
    assert (second.lost_upstream, second.dropped_upstream, second.rejected) == (2, 12, 7)
    for figure in ("received", "dead_lettered", "lost_upstream", "dropped_upstream", "rejected", "lag", "lag_s"):
        assert getattr(second, figure) == getattr(first, figure), figure
    assert second.dead_lettered == 5
    assert (tmp_path / "process").read_text() == (tmp_path / "thread").read_text() == "12"


@pytest.mark.parametrize("on_error", ["dead_letter", "skip"])
@pytest.mark.parametrize("where", ["thread", "process"])
def test_a_source_hears_of_what_was_given_up_behind_it(where, on_error, placed, tmp_path):
    """A record that a later node gives up is told to the source; what the source refused itself is not."""
    _run(where, tmp_path, on_error=on_error)
    assert (tmp_path / f"{where}.given_up").read_text() == "c"


@pytest.mark.parametrize("on_error", ["dead_letter", "skip"])
@pytest.mark.parametrize("where", ["thread", "process"])
def test_a_source_hears_once_of_a_record_that_two_stores_gave_up(where, on_error, placed, tmp_path):
    """Two stores that give up one record count a delivery each, and the source hears of one record."""
    source = ps.source("placed:Reporting", path=str(tmp_path / where), name="source", place=where)
    stores = [ps.store(placed.Refusing(), name=name, on_error=on_error) for name in ("archive", "index")]
    flows = [source >> store for store in stores]
    with ps.Pipeline(*flows, dead_letters=tmp_path / f"dead-{where}").start() as run:
        while any(not _outcomes(run.stats().node(name)) for name in ("archive", "index")):
            run.wait(0.02)
    given_up = (tmp_path / f"{where}.given_up").read_text()
    assert given_up == "c" * len(given_up)
    archive, index = (run.report.account.node(name) for name in ("archive", "index"))
    assert _outcomes(archive) == _outcomes(index) == len(given_up) == run.report.received - 5
    assert run.report.balanced


def _outcomes(account):
    return account.dead_lettered + account.skipped


def test_what_was_refused_keeps_its_reason(placed, tmp_path):
    """A message that the source refused is a dead letter with the source's error, also if it cannot be sent whole."""
    report = _run("process", tmp_path)
    node = report.account.node("source")
    assert node.dead_lettered == 5
    assert "HouseError: no 0" in node.first_error
    assert "HouseError: no 9" in node.last_error


@pytest.mark.parametrize("ability", [*(each.ability for each in REPORTS.values()), *(each for each, _ in POSITIONS)])
def test_a_proxy_has_the_abilities_of_its_source(ability, placed, tmp_path):
    """The run finds the same abilities in the proxy of a source as in the source."""
    from penstock.compose.resolve import resolve
    from penstock.plugins import Plugins

    node = ps.source("placed:Reporting", path=str(tmp_path / "x"), name="source", place="process")
    resolved = resolve(node, Plugins())
    proxy = remote_source(resolved, None, None)
    for each in (ability, SupportsRefusal, SupportsEndSoon):
        assert isinstance(proxy, each) == isinstance(resolved.sample, each), each


def test_barriers_do_not_wait_for_a_source_in_a_process(placed, tmp_path):
    """In a process, a source that could be woken is read for a short time only, so that no barrier waits for it."""
    path = tmp_path / "timeouts"
    source = ps.source("placed:Sleeper", path=str(path), place="process")
    with ps.Pipeline(source >> ps.store("null")).start() as run:
        while not path.exists() or len(path.read_text().splitlines()) < 3:
            run.wait(0.02)
    timeouts = [float(line) for line in path.read_text().splitlines()]
    assert max(timeouts) <= READ_TIMEOUT_S
    assert run.report.ok
