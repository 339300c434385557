"""Users find in `dir` of the package and of a run the names that they call, and nothing else."""

import penstock as ps
from penstock.errors import PenstockError

OF_A_RUN = [
    "abort", "add", "finished", "name", "node", "node_names", "pause", "remove", "replace", "report", "resume",
    "sources", "start", "stats", "stop", "stop_soon", "wait",
]  # fmt: skip


def test_a_run_shows_what_users_call():
    """`dir(run)` has the methods for users, and no internals of lanes, steps and changes."""
    pipeline = ps.Pipeline(ps.source([1, 2], name="numbers") >> ps.store("null"), name="lab")
    with pipeline.start() as run:
        assert [name for name in dir(run) if not name.startswith("_")] == OF_A_RUN
    assert run.finished
    assert run.report is not None
    assert run.report.ok


def test_errors_are_listed():
    """`dir(ps)` has `errors`, the module of all errors, and every name that `dir` lists is there."""
    assert "errors" in dir(ps)
    assert issubclass(ps.errors.StoreError, PenstockError)
    assert [name for name in dir(ps) if getattr(ps, name, None) is None] == []
