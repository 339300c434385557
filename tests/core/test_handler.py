"""DataHandler: data can be read at every moment, no call hangs, and nothing is lost silently."""

from __future__ import annotations

import itertools
import sys
import threading

import numpy as np
import pytest

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.errors import (
    ConfigError,
    ObjectNotFoundError,
    RunError,
    WiringError,
)
from penstock.handler import DataDiscardedError, DataFailedError, DataTimeoutError

from .gated_store import LONG_S, gated

pytestmark = pytest.mark.usefixtures("nothing_left")


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


def test_wrong_coordinates():
    """Invalid coordinates are rejected by name, in every method."""
    with ps.DataHandler("memory") as handler:
        with pytest.raises(ValueError, match=r"1\.5"):
            handler.put({"t": 1.5}, 0)
        with pytest.raises(ValueError, match=r"1\.5"):
            handler.get({"t": 1.5})
        assert {"t": 1.5} not in handler
        assert 7 not in handler


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
