"""The npy-stack store: one `.npy` a channel, which numpy opens at any time."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading

import numpy as np
import pytest

import penstock as ps
from penstock.coords import DataCoordinates
from penstock.errors import RecordExistsError, StoreError
from penstock.record import Record
from penstock_npy import NpyStackStore
from penstock_npy.growing_array import GrowingArray
from penstock_npy.npy_format import npy_header

ROUNDS = 100 if os.environ.get("PENSTOCK_FAULTS") == "full" else 6
CHILD = """
import sys
import numpy as np
from penstock.record import Record
from penstock_npy import NpyStackStore

store = NpyStackStore(path="camera.npy", root=sys.argv[1], when_exists="skip")
store.open()
number = int(sys.argv[2])
while True:
    store.write([Record(np.full((16, 16), n, "u4"), channel="camera", seq=n, time_ns=n, metadata={"part": n // 3})
                 for n in range(number, number + 7)])
    number += 7
    store.sync()
    print(number, flush=True)
"""


@pytest.fixture
def opened(tmp_path):
    """Open stores, and close them at the end."""
    stores = []

    def open_store(**settings):
        store = NpyStackStore(**{"path": "{{ channel }}.npy", "root": tmp_path, **settings})
        store.open()
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close()


def frame(number, shape=(4, 5), dtype="u2", **fields):
    return Record(
        np.full(shape, number % 200, dtype), **{"channel": "camera", "seq": number, "time_ns": number, **fields}
    )


def test_numpy_opens_it_while_it_is_written(opened, tmp_path):
    """After each write numpy maps the file, with all frames that were written, and no store has to be closed."""
    store = opened()
    for number in range(0, 120, 3):
        store.write([frame(n) for n in range(number, number + 3)])
        mapped = np.load(tmp_path / "camera.npy", mmap_mode="r")
        assert mapped.shape == (number + 3, 4, 5)
        assert mapped[:, 0, 0].tolist() == list(range(number + 3))
    times = np.load(tmp_path / "camera.times.npy")
    assert times["seq"].tolist() == times["time_ns"].tolist() == list(range(120))


def test_numpy_opens_it_at_any_moment(opened, tmp_path):
    """A reader that opens the file again and again, while frames are appended, sees whole frames only."""
    store = opened()
    store.write([frame(0)])
    is_over = threading.Event()
    seen: list[int] = []

    def look():
        while not is_over.is_set():
            mapped = np.load(tmp_path / "camera.npy", mmap_mode="r")
            assert (mapped[-1] == (len(mapped) - 1) % 200).all()
            seen.append(len(mapped))

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(1, 1000):
        store.write([frame(number)])
    is_over.set()
    thread.join()
    assert seen == sorted(seen)
    assert len(seen) > 1


def test_another_shape_or_dtype_begins_the_next_file(opened, tmp_path):
    """Each change of shape or dtype begins a file of its own; every record comes back, in the order of writing."""
    records = [
        frame(0), frame(1), frame(2, shape=(2, 2)), frame(3, dtype="f8"), frame(4), frame(5, shape=()),
        frame(6, shape=(0, 3)), frame(7, dtype=">u2"),
    ]  # fmt: skip
    store = opened()
    store.write(records)
    assert len(list(tmp_path.glob("*.times.npy"))) == 7
    keys = list(store.keys())
    assert keys == [f"camera.npy#{number}" for number in range(8)]
    for key, record in zip(keys, records, strict=True):
        found = store.get(key)
        assert (found.data.dtype, found.data.shape, found.seq) == (record.data.dtype, record.data.shape, record.seq)
        assert found.data.tobytes() == record.data.tobytes()


def test_two_stores_of_one_file(opened):
    """While one store writes to a file, another is refused with an error that may be tried again."""
    first, second = opened(), opened()
    first.write([frame(0)])
    with pytest.raises(StoreError, match="another writer has it open") as caught:
        second.write([frame(1)])
    assert caught.value.retryable
    first.close()
    second.write([frame(1)])
    assert list(second.keys()) == ["camera.npy#0", "camera.npy#1"]


def test_stores_one_after_another(tmp_path):
    """Stores that are opened one after another append to one file."""
    for number in range(3):
        store = NpyStackStore(path="{{ channel }}.npy", root=tmp_path)
        store.open()
        store.write([frame(number)])
        store.close()
    assert np.load(tmp_path / "camera.npy").shape == (3, 4, 5)


def test_coordinates_and_metadata_are_written_when_they_change(opened, tmp_path):
    """Frames that share coordinates and metadata share a line; keys by coordinates read no array."""
    store = opened()
    store.write([frame(n, coords=DataCoordinates(z=n // 50), metadata={"gain": n // 100}) for n in range(200)])
    assert len((tmp_path / "camera.jsonl").read_text().splitlines()) == 1 + 4
    os.truncate(tmp_path / "camera.npy", 128)
    assert list(store.keys(z=1)) == [f"camera.npy#{n}" for n in range(50, 100)]


def test_a_seq_that_is_there(opened):
    """A seq that its channel has is refused, or dropped with skip; one that comes late is kept."""
    store = opened()
    store.write([frame(5), frame(7), frame(6)])
    with pytest.raises(RecordExistsError) as caught:
        store.write([frame(6), frame(8), frame(8)])
    assert [record.seq for record, _ in caught.value.failed] == [6, 8]
    store.close()
    other = opened(when_exists="skip")
    other.write([frame(5), frame(6), frame(9)])
    assert sorted(int(key.split("#")[1]) for key in list(other.keys())) == [5, 6, 7, 8, 9]


def test_two_channels_of_one_file_are_refused(opened, tmp_path):
    """A template without the channel takes one channel, and says what to add."""
    store = opened(path="all.npy")
    with pytest.raises(StoreError, match=r"put \{\{ channel \}\} into the path") as caught:
        store.write([frame(0), frame(0, channel="other")])
    assert not caught.value.retryable
    assert len(store) == 1


def test_files_of_others_are_left_alone(opened, tmp_path):
    """A `.npy` of that name which is not a stack is not touched: the stack begins under the next number."""
    np.save(tmp_path / "camera.npy", np.zeros(3))
    before = (tmp_path / "camera.npy").read_bytes()
    store = opened()
    store.write([frame(0)])
    assert (tmp_path / "camera.npy").read_bytes() == before
    assert store.get("camera.npy#0").seq == 0
    assert np.load(tmp_path / "camera-1.npy").shape == (1, 4, 5)


@pytest.mark.parametrize(
    "array",
    [np.array([None]), np.ma.array([1, 2], mask=[0, 1]), np.zeros(2, [("a", object)]), [1, 2]],
    ids=["objects", "masked", "object field", "list"],
)
def test_what_a_file_cannot_hold_is_refused(opened, array):
    """Python objects, masks and lists are refused, and their neighbours are written."""
    store = opened()
    with pytest.raises(StoreError) as caught:
        store.write([frame(0), frame(1).replace(data=array), frame(2)])
    assert [record.seq for record, _ in caught.value.failed] == [1]
    assert not caught.value.retryable
    assert len(store) == 2


def test_a_file_that_is_removed_while_it_is_written_to(opened, tmp_path):
    """Frames that were written to a file which somebody removed are an error at the next write and sync."""
    store = opened()
    store.write([frame(0)])
    (tmp_path / "camera.npy").unlink()
    with pytest.raises(StoreError, match="was removed"):
        store.write([frame(1)])
    with pytest.raises(StoreError, match=r"removed|gone"):
        store.sync()
    store._state.series.popitem()[1].writer.close()
    store._state.folder.writer.forget(tmp_path / "camera.npy")


@pytest.mark.parametrize("dtype", ["u2", ">f4", "M8[ns]"])
@pytest.mark.parametrize("most", [1, 777, 5000])
def test_writes_that_are_cut_short_go_on(opened, tmp_path, monkeypatch, dtype, most):
    """When the system takes a part of what it is given, the rest follows."""
    real = os.pwritev

    def some(fd, buffers, offset):
        content = b"".join(bytes(memoryview(buffer).cast("B")) for buffer in buffers)
        return real(fd, [content[:most] if len(content) > 100 else content], offset)

    monkeypatch.setattr(os, "pwritev", some)
    store = opened()
    frames = np.arange(3 * 40).astype(dtype).reshape(3, 5, 8)
    store.write([Record(frame, channel="camera", seq=n) for n, frame in enumerate(frames)])
    monkeypatch.undo()
    assert (np.load(tmp_path / "camera.npy") == frames).all()


@pytest.mark.timeout(60 * ROUNDS)
def test_killed_at_any_moment(tmp_path):
    """After kill -9 numpy maps the file, what was synced is whole, and the next run goes on; again and again."""
    chance = random.Random(7)
    synced = 0
    for _ in range(ROUNDS):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, tmp_path, str(max(0, synced - 7))], stdout=subprocess.PIPE, text=True
        )
        with child:
            for _ in range(chance.randrange(1, 30)):
                synced = int(child.stdout.readline())
            child.kill()
            synced = max([synced, *(int(line) for line in child.stdout.read().splitlines())])
        mapped = np.load(tmp_path / "camera.npy", mmap_mode="r")
        assert len(mapped) >= synced
        assert (mapped[:, 0, 0] == np.arange(len(mapped))).all()
        assert (mapped == mapped[:, :1, :1]).all()
    store = NpyStackStore(path="camera.npy", root=tmp_path)
    store.open()
    found = store.get(f"camera.npy#{synced - 1}")
    assert (found.seq, found.time_ns, found.metadata) == (synced - 1, synced - 1, {"part": (synced - 1) // 3})
    store.close()


def test_in_a_pipeline(tmp_path):
    """A run writes a stack for each camera, and its account balances."""
    frames = ps.source([np.full((8, 8), n, "u2") for n in range(50)], channel="left")
    report = ps.Pipeline(frames >> ps.store("npy-stack", path=f"{tmp_path}/{{{{ channel }}}}.npy")).run(check=True)
    assert report.stored == 50
    assert np.load(tmp_path / "left.npy")[:, 0, 0].tolist() == list(range(50))


@pytest.mark.parametrize("dtype", ["<u2", ">f8", "?", "S5", [("seq", "<i8"), ("shape", "<i8", (2,))]])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (64, 64)])
def test_the_header_is_that_of_numpy(shape, dtype, tmp_path):
    """A header for any number of rows is, byte for byte, the one that is made from scratch."""
    array = GrowingArray(tmp_path / "a.npy", np.dtype(dtype), shape)
    array.make()
    for count in (0, 1, 9, 10, 99, 10**6, 10**18):
        array.say(count)
        header = npy_header(np.dtype(dtype), (count, *shape))
        assert (tmp_path / "a.npy").read_bytes() == header
    array.close()
