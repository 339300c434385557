"""DataHandler: failures of processors and stores cost their own records, and are named to those who read."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import attrs
import pytest

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.dead_letters import read_dead_letters
from penstock.errors import (
    CannotGetObjectError,
    ObjectNotFoundError,
    RunError,
    StoreError,
)
from penstock.handler import DataFailedError

from .gated_store import LONG_S, gated, opened

pytestmark = pytest.mark.usefixtures("nothing_left")


QUICK = ps.Retry(times=3, wait_initial_s=0.001, wait_max_s=0.002, jitter_s=0.001)


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


def test_a_store_that_cannot_be_opened():
    """If the store cannot be opened, the constructor raises, and nothing is left behind."""

    @attrs.define
    class Closed(MemoryStore):
        def open(self):
            raise OSError("no such disk")

    with pytest.raises(RunError, match="no such disk"):
        ps.DataHandler(Closed())


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
