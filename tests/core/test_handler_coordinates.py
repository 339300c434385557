"""DataHandler: data of the same coordinates, put twice, replaced, or stored before."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.errors import (
    RecordExistsError,
    StoreError,
)
from penstock.handler.events import Events
from penstock.handler.ledger import Ledger, Stored
from penstock.handler.watched import WatchedStore

from .gated_store import LONG_S

pytestmark = pytest.mark.usefixtures("nothing_left")


POLICIES = st.sampled_from(["error", "replace", "skip"])


@settings(max_examples=25, deadline=None)
@given(POLICIES, st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99)), max_size=25), st.booleans(), st.booleans())
def test_the_same_coordinates_twice(policy, puts, by_coordinates, process):
    """For repeated coordinates at any time, the first stays, or the last, or an error is raised, per policy."""
    key = "{{ coords.t }}" if by_coordinates else None
    expected: dict[int, int] = {}
    with ps.DataHandler(
        MemoryStore(key=key), (lambda c, d, m: (c, d, m)) if process else None, when_exists=policy, capacity=3
    ) as handler:
        for t, data in puts:
            if t in expected and policy == "error":
                with pytest.raises(RecordExistsError, match=rf"DataCoordinates\(t={t}\) already"):
                    handler.put({"t": t}, data)
                continue
            assert handler.put({"t": t}, data) == (policy == "replace" or t not in expected)
            if policy == "replace":
                expected[t] = data
            else:
                expected.setdefault(t, data)
            assert handler.get({"t": t})[0] == expected[t] or process
        report = handler.finish(LONG_S)
        assert report.ok, report
        assert {t: handler.get({"t": t})[0] for t in expected} == expected
        assert len(handler._store.inner) == len(expected)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=12),
    st.lists(st.booleans(), max_size=8),
    st.booleans(),
)
def test_replacing_while_the_store_fails(puts, faults, by_coordinates):
    """Whatever fails, a list that is rewritten until it works leaves the last data of each coordinates, once."""
    left = list(faults)

    def fail():
        if left and left.pop(0):
            raise OSError("busy")

    @attrs.define(kw_only=True)
    class Failing(MemoryStore):
        def write(self, records):
            fail()
            super().write(records)

        def replace(self, key, record):
            fail()
            super().replace(key, record)

    inner = Failing(key="{{ coords.t }}" if by_coordinates else None)
    ledger = Ledger("data", processes=False, when_exists="replace", events=Events("data"))
    store = WatchedStore(inner, ledger)
    store.open()
    records = [ps.Record(data, seq=seq, coords=ps.DataCoordinates(t=t)) for seq, (t, data) in enumerate(puts)]
    for record in records:
        ledger.admit(record)
    todo = records
    while todo:
        try:
            store.write(todo)
        except StoreError as error:
            failed = [record for record, _ in error.failed]
            assert failed, "it names what was not written"
            assert failed == todo[len(todo) - len(failed) :], "what comes behind a failure waits for it"
            todo = failed
        else:
            todo = []
    assert {inner.get(key).coords.t: inner.get(key).data for key in list(inner.keys())} == dict(puts)
    assert len(inner) == len(dict(puts))
    assert all(
        ledger.ask(record.coords, None).outcome == Stored(inner.key_of(inner.get(ledger.key_of(record.coords))))
        for record in records
    )


def test_a_store_that_held_data_before():
    """Data of an earlier handler are found, count as existing, and are replaced in place; numbers continue."""
    store = MemoryStore()
    with ps.DataHandler(store) as handler:
        for number in range(5):
            handler.put({"t": number}, number)
    with ps.DataHandler(store) as handler:
        assert handler.get({"t": 3}) == (3, {})
        assert {"t": 4} in handler
        with pytest.raises(RecordExistsError):
            handler.put({"t": 4}, 0)
        handler.put({"t": 5}, 5)
    with ps.DataHandler(store, lambda c, d, m: ({"t": 9}, d, m), when_exists="replace") as handler:
        handler.put({"t": 0}, 100)
        handler.put({"t": 1}, 101)
        assert handler.finish(LONG_S).ok
        assert handler.get({"t": 9}) == (101, {})
    assert sorted(store.get(key).data for key in list(store.keys())) == [0, 1, 2, 3, 4, 5, 101]


def test_several_results_of_the_same_coordinates():
    """All results of one call are stored, in order; the coordinates return the last. Later calls are rejected."""
    store = MemoryStore()
    with ps.DataHandler(store, lambda c, d, m: [(c, d, {"n": n}) for n in range(3)]) as handler:
        handler.put({"t": 0}, "x")
        assert handler.await_data({"t": 0}, LONG_S, processed=True)[1] == {"n": 2}
        assert handler.finish(LONG_S).ok
        assert handler.get({"t": 0})[1] == {"n": 2}
    assert [store.get(key).metadata["n"] for key in list(store.keys())] == [0, 1, 2]
    with ps.DataHandler(store, lambda c, d, m: ({"t": 1}, d, m)) as handler:
        handler.put({"t": 7}, "x")
        handler.put({"t": 8}, "y")
        assert not handler.finish(LONG_S).ok
        assert handler.get({"t": 1})[0] == "x"


@pytest.mark.parametrize("process_function", [None, lambda record: record], ids=["as put", "processed"])
def test_a_store_with_gaps_keeps_its_records_when_a_handler_goes_on(process_function):
    """After deletions, and gaps in the stored records, later records get new names."""
    store = MemoryStore(key="{{ channel }}/{{ seq }}", when_exists="replace")

    def put(first):
        with ps.DataHandler(store, process_function) as handler:
            for number in range(first, first + 4):
                handler.put({"t": number}, number)
            assert handler.finish().ok

    put(0)
    store.delete("data/1")
    store.delete("data/2")
    put(10)
    assert sorted(store.get(key).data for key in store.keys()) == [0, 3, 10, 11, 12, 13]  # noqa: SIM118 - no dict
