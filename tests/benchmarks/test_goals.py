"""The table of the benchmarks: it has each goal, and no goal is missed without a reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

WANTED = {
    "a generator as a source": ["<= 0.05 ms", "<= 1.5 ms", "<= 0.15 ms", "<= 1.5 ms", ">= 0.15 x"],
    "arrays of 256 KiB to 1 MiB through fused steps": [">= 0.8 x", ">= 0.8 x"],
    "starting a run or a DataHandler": ["<= 3 ms", "<= 3 ms"],
    "DataHandler": [*[">= 2 x", ">= 1 x, each turn", "<= 12 us"] * 2, ">= 2 x"],
    "LMDB, 512 KiB and 1 KiB": [">= 0.9 x", ">= 0.5 x"],
    "zenoh, 1 KiB and 2 MB": [">= 1 x", ">= 0.8 x"],
    'place="process"': [">= 0.8 x", ">= 5 x"],
    "frames between processes": ["<= 0.3 x its time", "<= 0.3 x its time", "<= 1.1 x its time"],
    "idle": ["<= 3 %"],
    "single records over an edge": [">= 1 x", ">= 1 x"],
    "three fused steps, doing nothing": [">= 0.6 x"],
    "edge, lists of 256": [">= 0.8 x", ">= 0.8 x"],
    "pipeline on ExEngine's work": [">= 5 x", ">= 0.65 x"],
}
UNITS = {"latency": "ms", "at_rest": "ms", "handler": "us"}


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import the table's modules as `python benchmarks/run.py` does; leave nothing of them behind."""
    before = dict(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    import run  # type: ignore[import-not-found]  # found by the line above

    yield run
    for name in sys.modules.keys() - before.keys():
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == BENCHMARKS:
            del sys.modules[name]


def row(benchmarks: Any, goal: Any, *, met: bool) -> Any:
    """Return a row that meets this goal, or misses it."""
    better = goal.limit * (2 if (goal.sense == ">=") is met else 0.5)
    if goal.of == "figure":
        return benchmarks.Row(name=goal.row, reference="r", unit="/s", ours=[better])
    ratio = 1 / better if goal.of == "cost" else better
    return benchmarks.Row(name=goal.row, reference="r", unit="/s", ours=[ratio] * 3, theirs=[1.0] * 3)


def test_the_table_has_every_subject_with_its_goals(benchmarks: Any) -> None:
    """Each subject of what a user feels is in the table with its goals, and each goal is counted."""
    found = {
        subject: [goal.text("%" if subject == "idle" else UNITS.get(goal.section, "")) for goal in goals]
        for subject, goals in benchmarks.FELT.items()
    }
    assert found == WANTED
    assert {id(goal) for goals in benchmarks.FELT.values() for goal in goals} <= {id(each) for each in benchmarks.GOALS}
    assert {goal.section for goal in benchmarks.GOALS} <= set(benchmarks.SECTIONS)


@pytest.mark.parametrize("met", [True, False])
def test_each_goal_is_judged(benchmarks: Any, met: bool) -> None:
    """A row that meets its goal is printed as met; one that does not, as missed, with the reason."""
    for goal in benchmarks.GOALS:
        lines = benchmarks.lines(row(benchmarks, goal, met=met), [goal])
        assert lines[0].endswith("met" if met else "MISSED")
        assert ("missed since: " + goal.reason in "\n".join(lines)) is not met


def run_with(benchmarks: Any, monkeypatch: pytest.MonkeyPatch, rows: list[Any], goals: list[Any]) -> int:
    """Run the command with a section of these rows and these goals only; return its exit status."""
    section = ModuleType("latency")
    section.rows = lambda scale: iter(rows)  # type: ignore[attr-defined]  # as a section has
    monkeypatch.setitem(sys.modules, "latency", section)
    monkeypatch.setattr(benchmarks, "GOALS", goals)
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "latency"])
    return int(benchmarks.main())


def test_a_miss_without_a_reason_is_an_error(
    benchmarks: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A goal that is missed without a stated reason makes the exit status 1; one with a reason does not."""
    for reason, status in (("", 1), ("it was measured", 0)):
        goal = benchmarks.Goal("latency", "a row", "ratio", ">=", 2, reason)
        assert run_with(benchmarks, monkeypatch, [row(benchmarks, goal, met=False)], [goal]) == status
        printed = capsys.readouterr()
        assert ("a row: misses >= 2 x, and goals.py states no reason" in printed.err) == bool(status)
        assert "0 of 1 goals met" in printed.out


def test_a_goal_without_a_row_is_an_error(
    benchmarks: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A goal that no row of a measured section has makes the exit status 1: no goal is lost by a new name."""
    goal = benchmarks.Goal("latency", "a row", "ratio", ">=", 2, "it was measured")
    assert run_with(benchmarks, monkeypatch, [], [goal]) == 1
    assert "a row: no row of latency has this name" in capsys.readouterr().err


def test_a_goal_of_the_worst_turn_looks_at_each(benchmarks: Any) -> None:
    """A goal for each turn is missed by a single slow one, though the median meets it."""
    found = benchmarks.Row(name="a row", reference="r", unit="/s", ours=[3.0, 3.0, 0.9], theirs=[1.0, 1.0, 1.0])
    assert not benchmarks.Goal("latency", "a row", "lowest", ">=", 1).met_by(found)
    assert benchmarks.Goal("latency", "a row", "ratio", ">=", 2).met_by(found)
    assert benchmarks.spread(found) == "0.9 to 3"
