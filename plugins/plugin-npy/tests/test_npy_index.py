"""The index of the npy store: its content, also after processes die and files are copied."""

from __future__ import annotations

import datetime
import json
import shutil
import threading

import numpy
import pytest

from penstock.coords import DataCoordinates
from penstock.errors import StoreError
from penstock.record import Record
from penstock_npy import NpyStore

PATH = "{{ channel }}/{{ seq }}.npy"


@pytest.fixture
def opened(tmp_path):
    """Open stores, and close them at the end."""
    stores = []

    def open_store(**settings):
        store = NpyStore(**{"path": PATH, "root": tmp_path, **settings})
        store.open()
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close()


def record(number=0, **fields):
    return Record(numpy.full((2, 3), number), **{"channel": "camera", "seq": number, "time_ns": number, **fields})


def test_what_is_known_is_read_with_the_json_module(opened, tmp_path):
    """By default channel, seq, time, coordinates and metadata of each file are one line of JSON, told by its path."""
    opened().write([record(7, coords=DataCoordinates(z=1), metadata={"gain": 2.5})])
    (index,) = tmp_path.glob(".index/*.jsonl")
    lines = [json.loads(line) for line in index.read_text("ascii").splitlines()]
    (line,) = [line for line in lines if line.get("path") == "camera/7.npy"]
    assert {name: line[name] for name in ("channel", "seq", "time_ns", "coords", "metadata")} == {
        "channel": "camera",
        "seq": 7,
        "time_ns": 7,
        "coords": {"z": 1},
        "metadata": {"gain": 2.5},
    }


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("-inf"),
        b"\x00\xff",
        datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.UTC),
        datetime.date(2024, 2, 29),
        datetime.timedelta(seconds=1.5),
        numpy.arange(6, dtype=">i2").reshape(2, 3),
        {"$float": "1"},
        {1: "a", "1": "b"},
        {"inner": [{"$x": [b"y"]}]},
        "half \ud800",
    ],
    ids=lambda value: repr(value)[:20],
)
def test_metadata_that_json_has_no_form_for(opened, value):
    """Metadata beyond JSON come back as they were."""
    store = opened()
    store.write([record(metadata={"value": value, "plain": 1})])
    found = store.get("camera/0.npy").metadata["value"]
    if isinstance(value, numpy.ndarray):
        assert found.dtype == value.dtype
        assert numpy.array_equal(found, value)
    else:
        assert type(found) is type(value)
        assert repr(found) == repr(value)


@pytest.mark.parametrize("value", [object(), 1j], ids=["object", "complex"])
def test_metadata_without_a_form(opened, tmp_path, value):
    """Metadata that cannot be kept refuse their record, and neither its file nor a line is there."""
    store = opened()
    with pytest.raises(StoreError) as caught:
        store.write([record(0, metadata={"value": value}), record(1)])
    assert [failed.seq for failed, _ in caught.value.failed] == [0]
    assert not caught.value.retryable
    assert list(store.keys()) == ["camera/1.npy"]


def test_a_torn_line_costs_no_other(opened, tmp_path):
    """A line that a dying process left half-written is skipped; what is written after it is whole."""
    opened().write([record(0), record(1)])
    (index,) = tmp_path.glob(".index/*.jsonl")
    with index.open("ab") as file:
        file.write(b'{"path": "camera/9.npy", "fi')
    store = opened()
    store.write([record(2)])
    assert [store.get(f"camera/{number}.npy").seq for number in range(3)] == [0, 1, 2]
    assert sorted(store.keys()) == ["camera/0.npy", "camera/1.npy", "camera/2.npy"]


def test_a_copied_archive_keeps_everything(opened, tmp_path):
    """An archive that was replaced into and then copied gives, at its new place, what was written last."""
    opened(when_exists="replace").write([record(0, metadata={"n": 1}), record(0, metadata={"n": 2})])
    shutil.copytree(tmp_path, tmp_path / "copy", copy_function=shutil.copyfile)
    assert opened(root=tmp_path / "copy").get("camera/0.npy").metadata == {"n": 2}


def test_a_line_without_its_file_means_nothing(opened, tmp_path):
    """A process that died between the line and the file leaves no key; the record can be written again."""
    store = opened()
    store.write([record(0, coords=DataCoordinates(z=1))])
    (tmp_path / "camera/0.npy").unlink()
    assert list(store.keys()) == list(store.keys(z=1)) == []
    store.write([record(0, coords=DataCoordinates(z=2))])
    assert list(store.keys(z=2)) == ["camera/0.npy"]
    assert list(store.keys(z=1)) == []


def test_coordinates_are_found_without_reading_arrays(opened, tmp_path):
    """`keys` by coordinates opens no array: arrays that cannot be read are found all the same."""
    store = opened()
    store.write([record(n, coords=DataCoordinates(t=n, c="ab"[n % 2])) for n in range(6)])
    for path in tmp_path.rglob("*.npy"):
        path.write_bytes(b"")
    assert list(store.keys(c="b")) == ["camera/1.npy", "camera/3.npy", "camera/5.npy"]


def test_an_index_that_is_removed_while_it_is_written_to(opened, tmp_path, caplog):
    """An index removed during a run is reported in the log, with the remedy; later lines are kept."""
    store = opened()
    store.write([record(0)])
    shutil.rmtree(tmp_path / ".index")
    store.write([record(1, metadata={"n": 1})])
    (tmp_path / ".index").rename(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere")
    store.write([record(2, metadata={"n": 2})])
    assert store.get("camera/2.npy").metadata == {"n": 2}
    assert "penstock recover" in caplog.text


def test_two_stores_of_one_root(opened):
    """Stores that write one name at the same time keep the array and the line of the same record."""
    stores = [opened(), opened()]
    barrier = threading.Barrier(2)
    refused = []

    def write(which):
        for number in range(100):
            barrier.wait()
            mine = Record(numpy.array([which]), channel="camera", seq=number, metadata={"which": which})
            try:
                stores[which].write([mine])
            except StoreError:
                refused.append(number)

    threads = [threading.Thread(target=write, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 100
    for number in range(100):
        found = stores[0].get(f"camera/{number}.npy")
        assert found.metadata["which"] == found.data[0]


def test_a_replaced_record_keeps_its_own_line(opened, tmp_path):
    """Of the lines of one path, that of the file which is there counts, though another one came later."""
    store = opened()
    store.write([record(0, metadata={"n": 1})])
    (index,) = tmp_path.glob(".index/*.jsonl")
    last = index.read_text().splitlines()[-1].replace('"n": 1', '"n": 2')
    line = json.loads(last)
    line["file"] = [line["file"][0] + 1, 0]
    with index.open("a") as file:
        file.write(json.dumps(line) + "\n")
    assert store.get("camera/0.npy").metadata == {"n": 1}
