"""DataHandler: data that a processor discards, diverts, or keeps for later."""

from __future__ import annotations

import attrs
import pytest

import penstock as ps
from penstock.handler import DataDiscardedError, DataTimeoutError

from .gated_store import LONG_S

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_discarded_and_diverted():
    """None discards: waiting callers get an error. Several results are found under their own coordinates."""

    def process(coords, data, metadata):
        if data == 1:
            return None
        if data == 2:
            return [({"t": 2, "half": half}, data / 2, metadata) for half in range(2)]
        return coords, data, metadata

    with ps.DataHandler("memory", process) as handler:
        for number in range(4):
            handler.put({"t": number}, number)
        for number in (1, 2):
            with pytest.raises(DataDiscardedError, match=rf"returned nothing for DataCoordinates\(t={number}\)"):
                handler.await_data({"t": number}, LONG_S, processed=True)
        assert [d for d, _ in handler.await_data([{"t": 2, "half": 0}, {"t": 2, "half": 1}], LONG_S)] == [1, 1]
        assert handler.put({"t": 1}, 5), "what was discarded may come again"
        report = handler.finish(LONG_S)
        assert report.ok, report
        assert report.stored == 5
        assert handler.get({"t": 1})[0] == 5


@attrs.define(kw_only=True)
class Pairs:
    """Keep every first record, and return the sum of two under the coordinates of the first."""

    _kept: list = attrs.field(factory=list, init=False)

    def __call__(self, record):
        if not self._kept:
            self._kept.append(record)
            return None
        first = self._kept.pop()
        return first.replace(data=first.data + record.data)

    def held(self):
        return list(self._kept)

    def flush(self):
        rest, self._kept = self._kept, []
        return rest


def test_what_a_processor_keeps_for_later():
    """A record that the processor holds can be read, and awaited, until its result is out."""
    with ps.DataHandler("memory", Pairs()) as handler:
        handler.put({"t": 0}, 1)
        with pytest.raises(DataTimeoutError):
            handler.await_data({"t": 0}, 0.05, processed=True)
        assert handler.get({"t": 0})[0] == 1
        handler.put({"t": 1}, 10)
        handler.put({"t": 2}, 100)
        assert handler.await_data({"t": 0}, LONG_S, processed=True)[0] == 11
        with pytest.raises(DataDiscardedError):
            handler.await_data({"t": 1}, LONG_S, processed=True)
        report = handler.finish(LONG_S)
        assert report.balanced, report
        assert handler.get({"t": 2}, processed=True)[0] == 100
