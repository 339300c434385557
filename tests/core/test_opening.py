"""A start always ends, whichever thread is late."""

from __future__ import annotations

import threading

import attrs
import pytest

import penstock as ps
from penstock.errors import RunError, SourceError
from penstock.testing.leaks import no_leaks


@attrs.define(kw_only=True)
class Refused:
    """A source that cannot be opened, and reports the attempt."""

    tried: threading.Event = attrs.field(factory=threading.Event, eq=False)

    def open(self):
        self.tried.set()
        raise SourceError("nobody is there", retryable=False)

    def read(self, max_records, timeout_s):
        return []

    def close(self):
        pass


@pytest.mark.timeout(30)
def test_a_source_that_fails_while_the_starter_looks_elsewhere(monkeypatch):
    """If the source fails before the starting thread has seen that the stores are open, the start still ends."""
    source = Refused()

    class Late(threading.Barrier):
        def wait(self, timeout=None):
            number = super().wait(timeout)
            if threading.current_thread() is threading.main_thread():
                assert source.tried.wait(10)
            return number

    monkeypatch.setattr(threading, "Barrier", Late)
    pipeline = ps.Pipeline(ps.source(source, name="camera") >> ps.edge(capacity=1) >> ps.store("null"))
    with no_leaks(), pytest.raises(RunError, match=r"node 'camera' .*nobody is there"):
        pipeline.run()
