"""DataHandler: data can be read at every moment, no call hangs, and nothing is lost silently."""

from __future__ import annotations

import gc
import itertools
import pickle
import sys
import threading
import weakref
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.dead_letters import read_dead_letters
from penstock.errors import (
    CannotGetObjectError,
    ConfigError,
    ObjectNotFoundError,
    RecordExistsError,
    RunError,
    StoreError,
    WiringError,
)
from penstock.handler import DataDiscardedError, DataFailedError, DataTimeoutError
from penstock.handler.events import Events
from penstock.handler.ledger import Ledger, Stored
from penstock.handler.watched import WatchedStore
from penstock.testing.leaks import no_leaks

LONG_S = 30.0
QUICK = ps.Retry(times=3, wait_initial_s=0.001, wait_max_s=0.002, jitter_s=0.001)


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path, monkeypatch):
    """No thread or file is left by any test; dead letters go to the test's directory."""
    monkeypatch.chdir(tmp_path)
    with no_leaks():
        yield


@attrs.define(kw_only=True)
class Gated(MemoryStore):
    """A memory store that writes only while its gate is open, and fails on demand."""

    gate: threading.Event = attrs.field(factory=threading.Event)
    came: threading.Event = attrs.field(factory=threading.Event)
    fail: list = attrs.field(factory=list)
    poison: object = lambda record: False
    calls: int = 0

    def write(self, records):
        self.came.set()
        assert self.gate.wait(LONG_S)
        self.calls += 1
        if self.fail:
            raise self.fail.pop(0)
        good = [record for record in records if not self.poison(record)]
        super().write(good)
        if len(good) < len(records):
            bad = [(record, ValueError("poison")) for record in records if self.poison(record)]
            raise StoreError("some were not written", failed=bad)


def gated(**settings) -> Gated:
    return Gated(key="{{ coords.t }}", **settings)


def opened(**settings) -> Gated:
    store = gated(**settings)
    store.gate.set()
    return store


def threads(*targets):
    """Run these side by side and raise the first error."""
    errors = []

    def call(target):
        try:
            target()
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=call, args=(target,)) for target in targets]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(LONG_S * 2)
    if errors:
        raise errors[0]


def test_found_while_waiting_while_stored_and_afterwards():
    """A record can be read right after put, while it is written, when it is stored, and after finish."""
    store = gated()
    with ps.DataHandler(store, lambda c, d, m: (c, d * 2, {**m, "done": True})) as handler:
        handler.put({"t": 1}, np.arange(3), {"exposure": 5})
        data, metadata = handler.await_data({"t": 1}, LONG_S, processed=True)
        assert data.tolist() == [0, 2, 4]
        assert metadata == {"exposure": 5, "done": True}
        assert store.came.wait(LONG_S)
        assert len(store) == 0
        assert handler.get({"t": 1})[0].tolist() == [0, 2, 4]
        assert not handler.get({"t": 1})[0].flags.writeable
        store.gate.set()
        assert handler.finish(LONG_S).ok
        assert len(store) == 1
        assert handler.get({"t": 1}, return_metadata=False) == (pytest.approx([0, 2, 4]), None)
        assert handler.get({"t": 1}, return_data=False) == (None, {"exposure": 5, "done": True})
    with pytest.raises(RunError, match=r"closed; get the data of DataCoordinates\(t=1\) from the store"):
        handler.get({"t": 1})


@pytest.fixture(params=[0.005, 1e-6], ids=["", "switching often"])
def switching(request):
    """Switch threads as usual, or after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(request.param)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("processor", [None, lambda c, d, m: (c, d, m)], ids=["stored", "processed"])
def test_no_gap_while_many_put_and_get(processor, switching):
    """Data that were put can be read until the end and after it, from any thread, also by waiting ones."""
    puts, each = 4, 150
    with ps.DataHandler("memory", processor, capacity=7) as handler:

        def put(thread):
            for number in range(each):
                coords = ps.DataCoordinates(thread=thread, n=number)
                handler.put(coords, thread * 1000 + number)
                for _ in range(3):
                    assert handler.get(coords)[0] == thread * 1000 + number
                assert handler.get({"thread": thread, "n": number // 2})[0] == thread * 1000 + number // 2
                assert coords in handler

        def wait(thread):
            wanted = ps.CoordinatesIterator.create(thread=[thread], n=range(each))
            found = handler.await_data(wanted, LONG_S, processed=True if processor else None)
            assert [data for data, _ in found] == [thread * 1000 + number for number in range(each)]

        threads(
            *(lambda thread=thread: put(thread) for thread in range(puts)),
            *(lambda thread=thread: wait(thread) for thread in range(puts)),
        )
        report = handler.finish(LONG_S)
        assert report.ok, report
        assert report.stored == puts * each
        for thread in range(puts):
            for number in range(each):
                assert handler.get({"thread": thread, "n": number})[0] == thread * 1000 + number


def test_unprocessed_and_processed():
    """Unprocessed data can be read until they are processed, then processed ones, each on request."""
    go = threading.Event()

    def process(coords, data, metadata):
        assert go.wait(LONG_S)
        return coords, data + 1, metadata

    with ps.DataHandler("memory", process) as handler:
        handler.put({"t": 0}, 10)
        assert handler.get({"t": 0}) == handler.get({"t": 0}, processed=False) == (10, {})
        with pytest.raises(ObjectNotFoundError, match=r"DataCoordinates\(t=0\) are not processed yet"):
            handler.get({"t": 0}, processed=True)
        with pytest.raises(DataTimeoutError, match=r"no data of DataCoordinates\(t=0\) arrived within 0.01 s"):
            handler.get({"t": 0}, processed=True, timeout_s=0.01)
        go.set()
        assert handler.get({"t": 0}, processed=True, timeout_s=LONG_S) == (11, {})
        for wait_s in (0.0, LONG_S):
            with pytest.raises(ObjectNotFoundError, match="are processed; the data as put are not kept"):
                handler.get({"t": 0}, processed=False, timeout_s=wait_s)
    with ps.DataHandler("memory") as handler, pytest.raises(ConfigError, match="has no process_function"):
        handler.get({"t": 0}, processed=True)


class Wanted(list):
    """Coordinates that report when all of them have been requested."""

    def __init__(self, items):
        super().__init__(items)
        self.asked = threading.Event()

    def __iter__(self):
        yield from super().__iter__()
        self.asked.set()


def test_awaiting_what_came_comes_and_never_comes():
    """await_data returns available data, waits for later ones, also unprocessed in passing, and times out by name."""
    with ps.DataHandler("memory", lambda c, d, m: (c, -d, m)) as handler:
        handler.put({"t": 0}, 10)
        assert handler.await_data({"t": 0}, LONG_S, processed=True) == (-10, {})
        passing = []
        wanted = Wanted([{"t": 2}, {"t": 1}])
        waiting = threading.Thread(target=lambda: passing.extend(handler.await_data(wanted, LONG_S, processed=False)))
        waiting.start()
        assert wanted.asked.wait(LONG_S)
        handler.put({"t": 1}, 11)
        handler.await_data({"t": 1}, LONG_S, processed=True)
        handler.put({"t": 2}, 12)
        waiting.join(LONG_S)
        assert passing == [(12, {}), (11, {})]
        with pytest.raises(DataTimeoutError, match=r"DataCoordinates\(t=9\)"):
            handler.await_data([{"t": 0}, {"t": 9}, {"t": 8}], 0.01)
        with pytest.raises(DataTimeoutError):
            handler.await_data(ps.CoordinatesIterator.create(t=itertools.count()), 0.02)
        with pytest.raises(ObjectNotFoundError, match=r"no data of DataCoordinates\(t=9\)"):
            handler.get({"t": 9})
        assert handler._ledger._waiters == {}


def test_finish_lets_those_go_who_wait():
    """A caller that waits for data that never arrive gets an error at finish; later callers get it at once."""
    told = []
    with ps.DataHandler("memory") as handler:

        def wait():
            with pytest.raises(ObjectNotFoundError, match=r"none will come: it is finished") as caught:
                handler.await_data({"t": 1})
            told.append(caught.value)

        waiting = threading.Thread(target=wait)
        waiting.start()
        handler.put({"t": 0}, 0)
        handler.finish(LONG_S)
        waiting.join(LONG_S)
        assert len(told) == 1
        with pytest.raises(ObjectNotFoundError):
            handler.get({"t": 2}, timeout_s=LONG_S)
        with pytest.raises(RunError, match=r"DataCoordinates\(t=3\) were not accepted: it is finished"):
            handler.put({"t": 3}, 0)
        assert handler.finish().ok


def test_full_is_felt_and_times_out():
    """If the store is slow, put waits for space within its timeout, then names the coordinates, and keeps nothing."""
    store = gated()
    with ps.DataHandler(store, capacity=2) as handler:
        taken = 0

        def fill():
            nonlocal taken
            while True:
                handler.put({"t": taken}, b"x", timeout_s=0.3)
                taken += 1

        with pytest.raises(DataTimeoutError, match=r"the data of DataCoordinates\(t=\d+\) were not accepted: no room"):
            fill()
        assert 2 < taken < 12
        assert {"t": taken} not in handler
        with pytest.raises(DataTimeoutError, match="not everything was stored within 0 s"):
            handler.finish(0)
        blocked = handler.get({"t": taken - 1})
        store.gate.set()
        assert handler.finish(LONG_S).stored == taken
        assert handler.get({"t": taken - 1}) == blocked


def test_without_a_processor_data_wait_once():
    """Without a processor, at most `capacity` data wait besides those that the store is writing."""
    store = gated()
    with ps.DataHandler(store, capacity=4) as handler:
        handler.put({"t": 0}, b"x")
        assert store.came.wait(LONG_S)
        try:
            for number in range(1, 5):
                handler.put({"t": number}, b"x", timeout_s=0)
            with pytest.raises(DataTimeoutError):
                handler.put({"t": 5}, b"x", timeout_s=0.3)
        finally:
            store.gate.set()
        assert handler.finish(LONG_S).stored == 5


def test_finish_frees_a_putter_that_waits():
    """A put that waits for space when the handler is finished raises, and its data are not partly kept."""
    store = gated()
    errors = []
    with ps.DataHandler(store, capacity=1) as handler:

        def put():
            try:
                for number in range(100):
                    handler.put({"t": number}, number)
            except RunError as error:
                errors.append(error)

        putting = threading.Thread(target=put)
        putting.start()
        assert store.came.wait(LONG_S)
        with pytest.raises(DataTimeoutError):
            handler.finish(0)
        putting.join(LONG_S)
        store.gate.set()
        report = handler.finish(LONG_S)
        assert report.ok, report
        assert report.stored == report.received == len(store)
    assert len(errors) == 1


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_dropping_is_said(policy):
    """A full handler with a drop policy never waits, counts drops, and reports them to callers that ask for them."""
    store = gated()
    with ps.DataHandler(store, capacity=2, when_full=policy) as handler:
        taken = [handler.put({"t": number}, number) for number in range(30)]
        store.gate.set()
        report = handler.finish(LONG_S)
        kept = {int(key) for key in list(store.keys())}
        assert report.received == len(kept) < 30
        assert report.dropped_upstream == 30 - len(kept)
        assert "of channel 'data' dropped by the source" in str(report)
        assert report.ok, report  # it may drop, and says so
        assert all(taken) == (policy == "drop_oldest")
        assert (29 in kept) == (policy == "drop_oldest")
        for number in set(range(30)) - kept:
            with pytest.raises(DataFailedError, match=rf"DataCoordinates\(t={number}\): they were dropped"):
                handler.await_data({"t": number})


def test_a_processor_that_raises_costs_only_that_record():
    """A caller that waits for a record on which the processor failed gets the error; its neighbours are stored."""

    def process(coords, data, metadata):
        if data % 3 == 0:
            raise ValueError(f"bad pixel in {data}")
        return coords, data, metadata

    with ps.DataHandler("memory", process) as handler:
        for number in range(9):
            handler.put({"t": number}, number)
        for number in range(9):
            if number % 3:
                assert handler.await_data({"t": number}, LONG_S, processed=True)[0] == number
            else:
                with pytest.raises(DataFailedError, match=rf"t={number}\): .*ValueError: bad pixel in {number}") as c:
                    handler.await_data({"t": number}, LONG_S, processed=True)
                assert c.value.coords == {"t": number}
                assert str(pickle.loads(pickle.dumps(c.value))) == str(c.value)
        report = handler.finish(LONG_S)
        assert (report.dead_lettered, report.stored) == (3, 6)
        assert {"t": 0} not in handler
        letters = list(read_dead_letters(Path(report.dead_letters)))
        assert [letter.parent.coords for letter in letters] == [{"t": 0}, {"t": 3}, {"t": 6}]
        assert "while processing DataCoordinates(t=0)" in letters[0].metadata["traceback"]


def test_a_store_that_raises_twice():
    """With a store that fails twice and then works, everything is stored once, in order, and readable throughout."""
    store = opened(fail=[OSError("busy"), StoreError("busy")])
    with ps.DataHandler(ps.store(store, retry=QUICK)) as handler:
        for number in range(50):
            handler.put({"t": number}, number)
            assert handler.get({"t": number // 2})[0] == number // 2
        assert handler.finish(LONG_S).ok
        assert list(store.keys()) == [str(number) for number in range(50)]


def test_a_store_that_fails_in_part_is_not_given_twice_what_it_has():
    """Records written beside a failed one are stored, once; only the bad one is dead-lettered."""
    store = gated(poison=lambda record: record.data == 3)
    with ps.DataHandler(ps.store(store, retry=QUICK)) as handler:
        for number in range(9):
            handler.put({"t": number}, number)
        store.gate.set()
        report = handler.finish(LONG_S)
        assert (report.stored, report.dead_lettered) == (8, 1)
        assert report.balanced
        with pytest.raises(DataFailedError, match=r"t=3\): .*ValueError: poison"):
            handler.get({"t": 3})


@pytest.mark.parametrize("on_error", ["dead_letter", "stop"])
def test_a_store_that_always_raises(on_error):
    """If nothing can be stored, waiters get an error, the report is not ok, and nothing hangs."""
    store = opened(poison=lambda record: True)
    with ps.DataHandler(ps.store(store, retry=QUICK, on_error=on_error), capacity=4) as handler:
        errors = []

        def wait(number):
            try:
                handler.await_data({"t": number})
                handler.await_data({"t": number, "more": 1})
            except (DataFailedError, ObjectNotFoundError) as error:
                errors.append(error)

        def ask_until_it_failed():
            while True:  # until then it is in memory
                handler.get({"t": 0})

        def put():
            try:
                for number in range(20):
                    handler.put({"t": number}, number)
            except RunError:
                assert on_error == "stop"
            with pytest.raises((DataFailedError, ObjectNotFoundError)):
                ask_until_it_failed()

        put()
        waiting = [threading.Thread(target=wait, args=(number,)) for number in range(3)]
        for thread in waiting:
            thread.start()
        report = handler.finish(LONG_S)
        for thread in waiting:
            thread.join(LONG_S)
        assert len(errors) == 3
        assert not report.ok
        assert report.stored == 0
        assert report.dead_lettered == (20 if on_error == "dead_letter" else 0)


def test_abort_says_what_was_lost():
    """An abort ends at once; data in memory count as lost, and callers that ask for them get an error."""
    store = opened(fail=[OSError("never")] * 1000)
    patient = ps.Retry(times=None, wait_initial_s=0.01, wait_max_s=0.02, jitter_s=0.01)
    with ps.DataHandler(ps.store(store, retry=patient)) as handler:
        handler.put({"t": 0}, 0)
        handler.put({"t": 1}, 0)
        assert store.came.wait(LONG_S)
        report = handler.abort()
        assert report.aborted
        assert report.lost + report.lost_upstream + report.dead_lettered == 2, report
        for number in (0, 1):
            with pytest.raises(DataFailedError, match=rf"t={number}\)"):
                handler.await_data({"t": number})


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


def test_events():
    """Each event is reported once per coordinates, in order; a callback that raises or blocks affects no other."""
    told = {"acquired": [], "processed": [], "stored": []}
    never = threading.Event()
    with ps.DataHandler("memory", lambda c, d, m: ({"t": -c.t}, d, m)) as handler:
        for event, coords in told.items():
            handler.subscribe(event, coords.append)
        handler.subscribe("stored", lambda coords: 1 / 0)
        end_blocked = handler.subscribe("acquired", lambda coords: never.wait(LONG_S))
        ended = []
        handler.subscribe("acquired", ended.append)()
        with pytest.raises(ConfigError, match="event 'saved': must be one of acquired, processed, stored"):
            handler.subscribe("saved", print)
        for number in range(100):
            handler.put({"t": number}, number)
        end_blocked()
        never.set()
        assert handler.finish(LONG_S).ok
    assert told["acquired"] == [{"t": number} for number in range(100)]
    assert told["processed"] == told["stored"] == [{"t": -number} for number in range(100)]
    assert ended == []


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


def test_a_result_that_exists_is_dead_lettered():
    """If a processor returns coordinates twice, the second result is dead-lettered, with an error that names them."""
    with ps.DataHandler("memory", lambda c, d, m: ({"sum": 0}, d, m)) as handler:
        handler.put({"t": 0}, 0)
        handler.put({"t": 1}, 1)
        report = handler.finish(LONG_S)
        assert (report.stored, report.dead_lettered) == (1, 1)
        with pytest.raises(DataFailedError, match=r"data of DataCoordinates\(sum=0\) already"):
            handler.get({"t": 1})


def test_a_store_that_cannot_be_read():
    """Data are read from memory; once stored, the error says that this store cannot be read, and names them."""
    with ps.DataHandler("null") as handler:
        handler.put({"t": 0}, 0)
        handler.finish(LONG_S)
        assert {"t": 0} in handler
        with pytest.raises(CannotGetObjectError, match=r"DataCoordinates\(t=0\) are stored, but NullStore cannot be"):
            handler.get({"t": 0})


def test_memory_is_freed():
    """No array outlives its writing, and no more are alive than the handler may hold."""
    alive: set[int] = set()
    most = 0

    class Frame(np.ndarray):
        pass

    with ps.DataHandler("null", lambda c, d, m: (c, d.base, m) if c.t % 2 else None, capacity=8) as handler:
        for number in range(3000):
            frame = np.zeros(10).view(Frame)
            weakref.finalize(frame, alive.discard, number)
            alive.add(number)
            handler.put({"t": number}, frame)
            del frame
            most = max(most, len(alive))
        assert handler.finish(LONG_S).ok
        gc.collect()
        assert alive == set()
    assert most < 8 * 2 + 256 * 2


def test_who_owns_an_array():
    """In-place processing works on a copy: data read before do not change."""
    go = threading.Event()

    def brighten(coords, data, metadata):
        assert go.wait(LONG_S)
        data += 1
        return coords, data, metadata

    brighten.in_place = True
    image = np.zeros(3)
    with ps.DataHandler("memory", brighten) as handler:
        handler.put({"t": 0}, image)
        before, _ = handler.get({"t": 0})
        go.set()
        assert handler.get({"t": 0}, processed=True, timeout_s=LONG_S)[0].tolist() == [1, 1, 1]
        assert before.tolist() == image.tolist() == [0, 0, 0]


def test_several_workers_each_with_a_processor_of_its_own():
    """A processor node with workers keeps the order, and no two workers share a component."""
    store = MemoryStore()
    with ps.DataHandler(store, ps.processor(lambda c, d, m: (c, d + 1, m), workers=3)) as handler:
        for number in range(300):
            handler.put({"t": number}, number)
        assert handler.finish(LONG_S).ok
    assert [store.get(key).data for key in list(store.keys())] == list(range(1, 301))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (("nothing",), {}, LookupError, "nothing"),
        ((object(),), {}, WiringError, "cannot be a store: it has no open, write, sync, close"),
        (("memory", 3), {}, WiringError, "cannot be a processor"),
        (("memory",), {"capacity": 0}, ConfigError, "capacity"),
        (("memory",), {"when_full": "explode"}, ConfigError, "when_full"),
        (("memory",), {"when_exists": "maybe"}, ConfigError, "when_exists='maybe': must be one of"),
        ((ps.store("memory", on_error="skip"),), {}, ConfigError, "on_error='skip' would leave waiters hanging"),
    ],
)
def test_wrong_arguments(arguments, options, error, words):
    """Wrong arguments are reported before anything opens."""
    with pytest.raises(error, match=words):
        ps.DataHandler(*arguments, **options)


def test_a_store_that_cannot_be_opened():
    """If the store cannot be opened, the constructor raises, and nothing is left behind."""

    @attrs.define
    class Closed(MemoryStore):
        def open(self):
            raise OSError("no such disk")

    with pytest.raises(RunError, match="no such disk"):
        ps.DataHandler(Closed())


def test_wrong_coordinates():
    """Invalid coordinates are rejected by name, in every method."""
    with ps.DataHandler("memory") as handler:
        with pytest.raises(ValueError, match=r"1\.5"):
            handler.put({"t": 1.5}, 0)
        with pytest.raises(ValueError, match=r"1\.5"):
            handler.get({"t": 1.5})
        assert {"t": 1.5} not in handler
        assert 7 not in handler


def test_what_a_function_may_write_into():
    """Three arguments: data and metadata, with nested values, are the function's own; the put data are unchanged."""

    def change(coords, data, metadata):
        data += 1
        metadata["camera"]["gain"] = 2
        metadata["list"].append(2)
        metadata["array"] += 1
        if coords.t == 1:
            raise ValueError("after writing")
        return coords, data, metadata

    image, known = np.zeros(3), {"camera": {"gain": 1}, "list": [1], "array": np.zeros(1)}
    with ps.DataHandler("memory", change) as handler:
        handler.put({"t": 0}, image, known)
        handler.put({"t": 1}, image, known)
        data, metadata = handler.await_data({"t": 0}, LONG_S, processed=True)
        assert data.tolist() == [1, 1, 1]
        assert (metadata["camera"], metadata["list"], metadata["array"].tolist()) == ({"gain": 2}, [1, 2], [1])
        with pytest.raises(DataFailedError, match="after writing"):
            handler.await_data({"t": 1}, LONG_S, processed=True)
    assert image.tolist() == [0, 0, 0]
    assert (known["camera"], known["list"], known["array"].tolist()) == ({"gain": 1}, [1], [0])


def test_not_writing_is_a_setting():
    """DataProcessor(in_place=False), and a function that declares it, get read-only arrays without a copy."""
    seen = []

    def look(coords, data, metadata):
        seen.append((data.flags.writeable, data.base is image))
        return coords, data, metadata

    image = np.zeros(3)
    quiet = lambda *parts: look(*parts)  # noqa: E731 - a function of its own, with an attribute
    for processor in (ps.DataProcessor(look, in_place=False), look, ps.DataProcessor(look)):
        with ps.DataHandler("memory", processor, reuses_buffers=False) as handler:
            handler.put({"t": 0}, image)
    assert seen == [(False, True), (True, False), (True, False)]
    for wrong in (print, lambda record: record, 5):
        with pytest.raises(ConfigError, match=r"pass a function of \(coords, data, metadata\)"):
            ps.DataProcessor(wrong)
    with pytest.raises(ConfigError, match="not both"):
        ps.DataHandler("memory", look, process_fn=quiet)


def test_in_a_pipeline_only_arrays_that_others_hold_are_copied():
    """A function of three arguments writes into a fresh array itself, and into a copy of one that is referenced."""
    where = []

    def write(coords, data, metadata):
        where.append(data.__array_interface__["data"][0])
        data += 1
        return coords, data, metadata

    held = [np.zeros(3), np.zeros((2, 3))[1]]
    made = []

    class Fresh:
        def __iter__(self):
            return self

        def __next__(self):
            if len(made) == 2:
                raise StopIteration
            array = np.zeros(3)
            made.append(array.__array_interface__["data"][0])
            return array

    assert ps.Pipeline(ps.source(held) >> ps.processor(write) >> ps.store("null")).run().ok
    assert [array.tolist() for array in held] == [[0, 0, 0]] * 2
    assert {array.__array_interface__["data"][0] for array in held}.isdisjoint(where)
    where.clear()
    assert ps.Pipeline(ps.source(Fresh(), reuses_buffers=False) >> ps.processor(write) >> ps.store("null")).run().ok
    assert where == made


def test_waiting_until_data_are_stored():
    """await_data(stored=True) waits for the store, and raises for data that can no longer arrive."""
    gate, store = threading.Event(), MemoryStore()

    class Slow(MemoryStore):
        def write(self, records):
            assert gate.wait(LONG_S)
            super().write(records)

    def process(coords, data, metadata):
        if coords.t == 1:
            return None
        if coords.t == 2:
            raise ValueError("broken")
        return coords, data, metadata

    store = Slow()
    with ps.DataHandler(store, process) as handler:
        for t in range(3):
            handler.put({"t": t}, t)
        assert handler.await_data({"t": 0}, LONG_S, processed=True)[0] == 0
        with pytest.raises(DataTimeoutError):
            handler.await_data({"t": 0}, 0.01, stored=True)
        gate.set()
        assert handler.await_data({"t": 0}, LONG_S, stored=True) == (0, {})
        assert len(store) == 1
        assert handler.await_data({"t": 0}, stored=True, return_data=False, return_metadata=False) == (None, None)
        with pytest.raises(DataDiscardedError):
            handler.await_data({"t": 1}, LONG_S, stored=True)
        with pytest.raises(DataFailedError, match="broken"):
            handler.await_data({"t": 2}, LONG_S, stored=True)
        handler.finish(LONG_S)
        with pytest.raises(ObjectNotFoundError, match="none will come"):
            handler.await_data({"t": 9}, stored=True)


def test_a_store_that_keeps_no_metadata_is_named_once(caplog):
    """Metadata do not vanish silently between memory and store: the log names the store, once."""

    class Forgetful(MemoryStore):
        def write(self, records):
            super().write([record.replace(metadata={}) for record in records])

    for kind, wanted in ((Forgetful, 1), (MemoryStore, 0)):
        caplog.clear()
        with ps.DataHandler(kind()) as handler:
            for t in range(20):
                handler.put({"t": t}, t, {"exposure": 5} if t > 2 else {})
        told = [record.getMessage() for record in caplog.records if "does not keep metadata" in record.getMessage()]
        assert len(told) == wanted
        assert all("Forgetful" in text and "'exposure'" in text for text in told)


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


def test_a_store_that_cannot_be_closed_does_not_hide_what_left_the_body(caplog):
    """An exception from the block propagates, also if closing the store raises; without one, the latter is raised."""

    @attrs.define(kw_only=True)
    class Stuck(MemoryStore):
        def close(self):
            raise OSError("stuck")

    with pytest.raises(KeyboardInterrupt), ps.DataHandler(Stuck()):
        raise KeyboardInterrupt
    assert "stuck" in caplog.text
    with pytest.raises(OSError, match="stuck"), ps.DataHandler(Stuck()):
        pass
