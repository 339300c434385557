"""What users of ExEngine's data classes look for (rows E1 to E5), beside what tests/core tests by these names."""

from __future__ import annotations

import inspect

import attrs
import numpy as np
import pytest

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.errors import WiringError

LONG_S = 30.0


@pytest.fixture(autouse=True)
def _dead_letters_in_a_directory_of_the_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_e1_the_same_coordinates_in_every_spelling():
    """Data put under one spelling of coordinates are found under every other: dict, keywords, order, numpy numbers."""
    with ps.DataHandler("memory") as handler:
        handler.put(ps.DataCoordinates(time=np.uint16(3), channel="DAPI"), "picture")
        for spelling in (
            {"time": 3, "channel": "DAPI"},
            {"channel": "DAPI", "time": np.int64(3)},
            ps.DataCoordinates({"channel": "DAPI"}, time=3),
        ):
            assert handler.get(spelling)[0] == "picture"
            assert spelling in handler
        assert {"time": 3} not in handler, "a part of coordinates is not the coordinates"


def test_e2_an_iterator_can_be_awaited_and_gone_through_again():
    """The iterator that drives an acquisition is also what one waits for, as often as one likes."""
    wanted = ps.DataCoordinatesIterator.create(time=range(5), channel=["DAPI", "GFP"])
    with ps.DataHandler("memory") as handler:
        for coords in wanted:
            handler.put(coords, f"{coords.time}{coords.channel}")
        for _ in range(2):
            found = handler.await_data(wanted, LONG_S)
            assert [data for data, _ in found] == [f"{time}{name}" for time in range(5) for name in ("DAPI", "GFP")]


def test_e3_a_storage_is_found_by_its_name():
    """A handler takes the name of any store that an installed plugin offers, or a node with its settings."""
    for storage in ("memory", ps.store("memory", key="{{ coords.t }}"), "penstock.builtin.memory:MemoryStore"):
        with ps.DataHandler(storage) as handler:
            handler.put({"t": 1}, "picture", {"by": "me"})
            handler.finish(LONG_S)
            assert handler.get({"t": 1}) == ("picture", {"by": "me"})


def test_e3_the_names_of_a_storage():
    """`get_data`, `get_metadata`, `in` and `[]` return existing data from anywhere; missing data are a KeyError."""
    with ps.DataHandler("memory") as handler:
        handler.put({"t": 1}, "picture", {"by": "me"})
        for _ in range(2):
            assert handler[{"t": 1}] == handler.get_data({"t": 1}) == "picture"
            assert handler.get_metadata({"t": 1}) == {"by": "me"}
            assert {"t": 1} in handler
            assert {"t": 2} not in handler
            for ask in (handler.__getitem__, handler.get_data, handler.get_metadata):
                with pytest.raises(KeyError, match=r"no data of DataCoordinates\(t=2\)"):
                    ask({"t": 2})
            handler.finish(LONG_S)


@pytest.mark.parametrize("missing", ["open", "write", "sync", "close"])
def test_e3_a_missing_method_is_an_error_at_once(missing):
    """A storage without one of its methods is refused when the handler is made, and the method is named."""
    methods = {name: lambda self, *_: None for name in ("open", "write", "sync", "close") if name != missing}
    with pytest.raises(WiringError, match=f"has no {missing}"):
        ps.DataHandler(type("Incomplete", (), methods)())


def test_e4_names_and_order_of_arguments():
    """Methods and arguments are called, and stand, as users of ExEngine know them."""
    parameters = {
        name: list(inspect.signature(getattr(ps.DataHandler, name)).parameters)[1:]
        for name in ("__init__", "put", "get", "finish")
    }
    assert parameters["__init__"][:2] == ["storage", "process_function"]
    assert parameters["put"][:3] == ["coords", "data", "metadata"]
    assert parameters["get"] == ["coords", "return_data", "return_metadata", "processed", "timeout_s"]
    assert parameters["finish"] == ["timeout_s"]


def test_e4_one_storage_in_a_pipeline_and_in_a_handler():
    """What a pipeline stored can be had through a handler, and the other way round: it is the same store."""
    store = MemoryStore(key="{{ coords.t }}")
    with ps.DataHandler(store) as handler:
        handler.put({"t": 0}, "from a handler")
    store.write([ps.Record("written", coords=ps.DataCoordinates(t=1))])
    with ps.DataHandler(store) as handler:
        assert [data for data, _ in handler.await_data([{"t": 0}, {"t": 1}], LONG_S)] == ["from a handler", "written"]


@attrs.define
class Average:
    """Average every three pictures of a channel: it keeps them for later, and gives one."""

    _kept: list = attrs.field(factory=list, init=False)

    def __call__(self, coords, data, metadata):
        self._kept.append(data)
        if len(self._kept) < 3:
            return None
        kept, self._kept = self._kept, []
        return {"average": coords.t // 3}, sum(kept) / 3, {**metadata, "of": 3}


def test_e5_a_processor_may_keep_for_later():
    """None may also mean: for later; the result is found under the coordinates that the processor gives it."""
    with ps.DataHandler("memory", Average()) as handler:
        for number in range(6):
            handler.put({"t": number}, number)
        assert handler.await_data([{"average": 0}, {"average": 1}], LONG_S) == [(1.0, {"of": 3}), (4.0, {"of": 3})]


def test_e5_rubbish_from_a_processor_names_the_coordinates():
    """A processor that returns something else costs that record, and the error says which and what is right."""
    with ps.DataHandler("memory", lambda coords, data, metadata: data) as handler:
        handler.put({"t": 5}, "rubbish")
        with pytest.raises(
            RuntimeError, match=r"returned 'rubbish' for DataCoordinates\(t=5\): return \(coords, data,"
        ):
            handler.await_data({"t": 5}, LONG_S, processed=True)
