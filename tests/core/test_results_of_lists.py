"""Results of a processor for a list of records mean what each means alone, however many passes find that out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import EndOfSource

RESULTS = [
    lambda record: record,
    lambda record: None,
    lambda record: record.replace(data=b"new"),
    lambda record: 5,
    lambda record: {"mean": 3},
    lambda record: np.arange(3),
    lambda record: [],
    lambda record: [record],
    lambda record: [7],
    lambda record: [record, record.replace(seq=99)],
    lambda record: [1, {"a": 2}, np.arange(2)],
    lambda record: [record.replace(channel="other"), record],
    lambda record: [record.replace(seq=record.seq + 50)],
    lambda record: record.replace(channel="other"),
    lambda record: (record.coords, 1, {"a": 1}),
    lambda record: [None],
    lambda record: [record.replace(seq=np.int64(record.seq))],
]


class AtOnce:
    """Give all records in one list, or each in a list of its own."""

    def __init__(self, records, size):
        self.lists = iter([records[start : start + size] for start in range(0, len(records), size)])

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        for records in self.lists:
            return records
        raise EndOfSource("no more")

    def close(self):
        pass


def plain(data):
    return data.tolist() if isinstance(data, np.ndarray) else data


def came_of(records, make, size):
    """Return what came of these records in lists of this size, and how the node counted them."""
    given = []
    keep = ps.processor(lambda record: (given.append(record), record)[1], name="keep")
    flow = ps.source(AtOnce(records, size)) >> ps.processor(make, name="f") >> keep
    report = ps.Pipeline(flow >> ps.store("null")).run()
    assert report.balanced
    node = next(node for node in report.account.nodes if node.node == "f")
    counts = (node.records_in, node.passed, node.extra, node.discarded, node.dead_lettered, node.lost)
    return [(each.channel, each.seq, each.metadata, plain(each.data)) for each in given], counts


@given(st.lists(st.sampled_from(range(len(RESULTS))), min_size=1, max_size=3), st.integers(1, 2))
@settings(max_examples=60, deadline=None)
def test_a_list_gives_what_its_records_give_one_by_one(kinds, channels):
    """Results of every kind, alike or mixed, have the same data, names and counts whatever list their record was in."""
    records = [ps.Record(seq, channel=f"c{seq % channels}", seq=seq // channels) for seq in range(40)]

    def make(record):
        return RESULTS[kinds[record.data % len(kinds)]](record)

    assert came_of(records, make, len(records)) == came_of(records, make, 1)


@pytest.mark.parametrize("kind", range(len(RESULTS)))
def test_a_call_that_raises_amid_results_of_each_kind_costs_its_own_record(kind, tmp_path, monkeypatch):
    """One record goes to the dead letters; those beside it in its list have their results."""
    monkeypatch.chdir(tmp_path)
    records = [ps.Record(seq, channel="c", seq=seq) for seq in range(40)]

    def make(record):
        if record.seq == 30:
            raise ValueError("no")
        return RESULTS[kind](record)

    found, counts = came_of(records, make, len(records))
    assert (found, counts) == came_of(records, make, 1)
    assert counts[-2:] == (1, 0)


def test_a_function_of_parts_writes_into_arrays_of_its_own():
    """An array that others hold is copied for it; a second try gets the data that the first one got."""
    shared = np.zeros(4)
    seen = []

    def add(coords, data, metadata):
        data += 1
        metadata["n"] = 1
        seen.append(data)
        if len(seen) == 2:
            raise OSError("once")
        return coords, data, metadata

    kept = []
    flow = ps.source([ps.Record(shared, seq=seq) for seq in range(3)])
    flow = (
        flow
        >> ps.processor(add, retry=ps.Retry(times=2, wait_initial_s=0.001, jitter_s=0))
        >> (lambda record: kept.append(record))
    )
    assert ps.Pipeline(flow >> ps.store("null")).run().ok
    assert shared.tolist() == [0] * 4
    assert [record.data.tolist() for record in kept] == [[1] * 4] * 3
    assert [record.metadata for record in kept] == [{"n": 1}] * 3
