"""Row E3: a storage with put, get_data, get_metadata, finish and close is a store."""

from __future__ import annotations

import numpy as np
import pytest

import penstock as ps
from penstock.errors import CannotGetObjectError, ObjectNotFoundError, RecordExistsError, WiringError
from penstock.handler import DataFailedError

LONG_S = 30.0


class Shelf:
    """A storage that records its calls."""

    def __init__(self):
        self.data, self.metadata, self.calls = {}, {}, []

    def put(self, coords, data, metadata):
        if coords.get("t") == 13:
            raise OSError("no luck")
        self.data[coords] = data
        self.metadata[coords] = metadata

    def get_data(self, coords):
        return self.data.get(coords)

    def get_metadata(self, coords):
        return self.metadata.get(coords)

    def finish(self):
        self.calls.append("finish")

    def close(self):
        self.calls.append("close")

    def __contains__(self, coords):
        return coords in self.data


@pytest.fixture(autouse=True)
def _dead_letters_in_a_directory_of_the_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_e3_a_handler_finishes_and_closes_its_storage_once():
    """Finish reaches the storage, which can still be read; close closes it; both only once."""
    shelf = Shelf()
    handler = ps.DataHandler(shelf)
    image = np.zeros(3)
    handler.put({"t": 0}, image, {"by": "me"})
    for _ in range(2):
        assert handler.finish(LONG_S).ok
        assert shelf.calls == ["finish"]
    data, metadata = handler.get({"t": 0})
    assert (data.tolist(), metadata) == ([0, 0, 0], {"by": "me"})
    image += 1
    assert data.tolist() == [0, 0, 0], "the storage has a copy"
    for _ in range(2):
        handler.close()
        assert shelf.calls == ["finish", "close"]


def test_e3_what_a_storage_had_before_is_there():
    """Data of an earlier run can be read, and are overwritten only on request."""
    shelf = Shelf()
    shelf.put(ps.DataCoordinates(t=1), "old", {"a": 1})
    with ps.DataHandler(shelf) as handler:
        assert handler.get({"t": 1}) == ("old", {"a": 1})
        assert {"t": 1} in handler
        assert {"t": 2} not in handler
        with pytest.raises(RecordExistsError):
            handler.put({"t": 1}, "new")
        with pytest.raises(ObjectNotFoundError):
            handler.get({"t": 2})
    shelf.calls.clear()
    with ps.DataHandler(shelf, when_exists="replace") as handler:
        handler.put({"t": 1}, "new")
        assert handler.await_data({"t": 1}, LONG_S, stored=True)[0] == "new"


def test_e3_what_a_storage_refuses_costs_one_record():
    """A put that raises costs its record, which is dead-lettered; waiting callers get an error."""
    shelf = Shelf()
    with ps.DataHandler(ps.store(shelf, retry=ps.Retry(times=1))) as handler:
        for t in (12, 13, 14):
            handler.put({"t": t}, t)
        with pytest.raises(DataFailedError, match="no luck"):
            handler.await_data({"t": 13}, LONG_S, stored=True)
        assert handler.await_data([{"t": 12}, {"t": 14}], LONG_S, stored=True) == [(12, {}), (14, {})]
    assert shelf.calls == ["finish", "close"]


def test_e3_a_storage_in_a_pipeline():
    """A pipeline writes into a storage and finishes it; it stays open for its user, who reads it afterwards."""
    shelf = Shelf()
    records = [ps.Record(t, coords=ps.DataCoordinates(t=t), metadata={"n": t}) for t in range(3)]
    assert ps.Pipeline(ps.source(records) >> ps.store(shelf)).run().ok
    assert list(shelf.data.values()) == [0, 1, 2]
    assert shelf.metadata[ps.DataCoordinates(t=2)] == {"n": 2}
    assert shelf.calls == ["finish"]


@pytest.mark.parametrize("missing", ["put", "get_metadata", "finish", "close"])
def test_e3_a_storage_without_a_method_is_refused(missing):
    """A storage that lacks a method is rejected by name before anything opens."""
    methods = {name: value for name, value in vars(Shelf).items() if name != missing and not name.startswith("__")}
    with pytest.raises(WiringError, match=f"treated as a storage, but it has no {missing};"):
        ps.store(type("Incomplete", (), methods)())


def test_e3_a_storage_that_cannot_read_says_so():
    """Data that a storage has and cannot return are an error that names them."""

    class Broken(Shelf):
        def get_data(self, coords):
            raise ValueError("torn page")

    with ps.DataHandler(Broken()) as handler:
        handler.put({"t": 0}, 1)
        with pytest.raises(CannotGetObjectError, match=r"Broken: .*torn page"):
            handler.await_data({"t": 0}, LONG_S, stored=True)
