"""The push source keeps every promise of its contract."""

from __future__ import annotations

from penstock.builtin.push import PushSource
from penstock.testing import SourceContract


class TestPushSource(SourceContract):
    """The test's own code that creates it keeps a reference, to put records into it."""

    repeats = False
    picklable = False  # its inlet is shared with those who put

    def make_source(self, tmp_path):
        self.source = PushSource(channel="numbers")
        return self.source

    def feed(self, tmp_path):
        self.source.put(range(self.count))
        self.source.end()
