"""DataHandler: who owns an array, who may write into it, and when its memory is freed."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.errors import (
    ConfigError,
)
from penstock.handler import DataFailedError

from .gated_store import LONG_S

pytestmark = pytest.mark.usefixtures("nothing_left")


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
