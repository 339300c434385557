"""Errors of any class in a process of its own: as in a thread, they cost their own record, and no run hangs."""

from __future__ import annotations

import os

import pytest

import penstock as ps
from penstock.testing.any_errors import ANY_ERROR

CALLS = [
    *(("processor", call) for call in ("__call__", "list", "flush", "close")),
    *(("decoder", call) for call in ("decode", "flush")),
    *(("store", call) for call in ("write", "sync", "close")),
    *(("source", call) for call in ("read", "position", "lost_upstream")),
]
FEW = ["StopIteration", "SystemExit", "disguised"]
KINDS = ANY_ERROR if os.environ.get("PENSTOCK_FAULTS") == "full" else FEW


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_a_process_costs_its_own_record(kind, any_parts):
    """Whatever a component in a process raises: its record is dead-lettered or its node named, all else is stored."""
    pipelines = []
    for role, call in CALLS:
        parts = {name: getattr(any_parts, name.capitalize())() for name in ("source", "decoder", "processor", "store")}
        parts[role].call, parts[role].kind = call, kind
        options = {name: {"retry": ps.Retry(times=1), "name": name} for name in parts}
        options[role]["place"] = "process"
        flow = ps.source(parts["source"], **options["source"])
        for name in ("decoder", "processor", "store"):
            flow >>= getattr(ps, name)(parts[name], **options[name])
        pipelines.append((role, call, ps.Pipeline(flow, name=f"{role}-{call}").start()))
    for role, call, run in pipelines:
        report = run.wait(60)
        if report is None:
            run.abort()
            pytest.fail(f"{role}.{call} hangs")
        bad = int(call in ("__call__", "list", "decode", "write"))
        assert (report.stored, report.dead_lettered, report.lost) == (any_parts.COUNT - bad, bad, 0), (
            role,
            call,
            report,
        )
        assert report.balanced
        assert not report.aborted
        if (call, kind) != ("read", "EndOfSource"):  # there it is the end
            assert not report.ok, (role, call)
