"""Results on their way back: short if only the data differ, and the same in any case."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.coords import DataCoordinates
from penstock.run.process.results import pack_column, unpack_column

RECORDS = [
    ps.Record(n, channel="c", seq=n, time_ns=n, coords=DataCoordinates(z=n), metadata={"n": n}, parent=ps.Record(b"p"))
    for n in range(3)
]
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.binary(), st.text())


@settings(deadline=None)
@given(st.lists(plain, min_size=3, max_size=3))
def test_data_keep_their_type(data):
    """Data that are sent as a column come back as they were; the other fields are those that the run has."""
    column = pack_column([record.replace(data=each) for record, each in zip(RECORDS, data, strict=True)], RECORDS)
    if column is None:
        assert any(type(each) is int and not -(2**63) <= each < 2**64 for each in data)
        return
    found = unpack_column(column, RECORDS)
    assert [(type(record.data), record.data) for record in found] == [(type(each), each) for each in data]
    for record, before in zip(found, RECORDS, strict=True):
        assert record.parent is before.parent
        assert record.metadata is before.metadata


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 10**12},
        {"time_ns": 10**12},
        {"channel": "other"},
        {"metadata": {"n": 0}},
        {"coords": DataCoordinates(z=7)},
        {"parent": None},
        {"discontinuity": True},
        {"data": [1]},
        {"data": b"x" * 5000},
        {"data": "\ud800"},
    ],
)
def test_any_other_difference_is_sent(change):
    """A result that differs in more than small data is sent as a record."""
    assert pack_column([RECORDS[0], RECORDS[1].replace(**change), RECORDS[2]], RECORDS) is None
    assert pack_column(RECORDS[:2], RECORDS) is None


def test_results_with_other_data_keep_the_rest(lead, there):
    """Behind a process, a record with other data has the metadata, coordinates and time that it went with."""
    items = [ps.Record(n, channel="c", seq=n, time_ns=n, metadata={"n": n}, parent=ps.Record(b"p")) for n in range(50)]
    lead(there("double"), items=ps.source(items))
    assert lead.data == [2 * n for n in range(50)]
    for record, before in zip(lead.got, items, strict=True):
        assert (record.time_ns, record.metadata, record.parent) == (before.time_ns, before.metadata, before.parent)
