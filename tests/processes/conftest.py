"""Runs whose nodes work in processes of their own; nothing may be left of them, neither here nor in /dev/shm."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import sys
import uuid
from pathlib import Path

import pytest

import penstock as ps
from penstock.testing import no_leaks

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A directory of its own for the test, one for its shared memory, and `placed.py` on the path of its processes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    shared = Path("/dev/shm") / f"penstock-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("PENSTOCK_SHM_DIR", str(shared))
    shared.mkdir()
    with no_leaks(wait_s=10.0):
        yield shared
        gc.collect()
    left = [str(path) for path in shared.rglob("*")]
    shutil.rmtree(shared, ignore_errors=True)
    assert left == []
    sys.modules.pop("placed", None)


@pytest.fixture
def placed():
    """The module of components that the processes import."""
    import placed

    return placed


class Lead:
    """Lead numbers, or records, through steps; keep what came out, and the report."""

    def __init__(self):
        self.got = []
        self.report = None

    @property
    def data(self):
        return [record.data for record in self.got]

    def flow(self, *steps, items=range(20)):
        """Return the flow, whose last node keeps everything in `got`."""
        if not isinstance(items, ps.Node):
            items = ps.source([ps.Record(each, channel="c", seq=n) for n, each in enumerate(items)], name="source")
        flow = items
        for step in steps:
            flow = flow >> step
        return flow >> self.keep >> ps.store("null", name="end")

    def keep(self, record):
        self.got.append(record)
        return record

    def __call__(self, *steps, items=range(20), **settings):
        self.report = ps.Pipeline(self.flow(*steps, items=items), **settings).run()
        assert self.report.balanced, self.report
        return self.report


@pytest.fixture
def lead():
    """Lead records through steps; results are in shared memory, and are released at the end."""
    lead = Lead()
    yield lead
    lead.got.clear()


@pytest.fixture
def there():
    """A function that makes a node of what `placed.py` calls so, in a process of its own."""

    def make(what, *, role="processor", **settings):
        return getattr(ps, role)(f"placed:{what}", place="process", **settings)

    return make


@pytest.fixture
def endless():
    """A function that gives numbered records until an event is set."""

    def items(gate):
        return (
            ps.Record(number, channel="c", seq=number)
            for number in itertools.takewhile(lambda _: not gate.is_set(), itertools.count())
        )

    return items


@pytest.fixture
def any_parts(monkeypatch):
    """The module of components that raise errors of any class, as the processes import it."""
    monkeypatch.syspath_prepend(str(HERE.parent / "faults"))
    import any_parts

    yield any_parts
    sys.modules.pop("any_parts", None)
