"""Names of files of the npy store: one for each sub-array, and numbers for names that are taken."""

from __future__ import annotations

import os

import numpy
import pytest

from penstock.errors import ConfigError, RecordExistsError, StoreError
from penstock.record import Record
from penstock_npy import JsonStore, NpyStore

SPLIT = "{{ seq }}-{{ _split_index }}.npy"


@pytest.fixture
def opened(tmp_path):
    """Open npy stores, and close them at the end."""
    stores = []

    def open_store(**settings):
        store = NpyStore(**{"path": SPLIT, "root": tmp_path, "split": True, **settings})
        store.open()
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close()


def test_a4_one_file_for_each_sub_array(opened, tmp_path):
    """Each sub-array of axis 0 is a file of its own, named by its number, which its metadata hold too."""
    array = numpy.asfortranarray(numpy.arange(24, dtype=">u2").reshape(3, 2, 4))
    store = opened()
    store.write([Record(array, seq=5, metadata={"run": 1, "_split_index": "forged"})])
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == ["5-0.npy", "5-1.npy", "5-2.npy"]
    for index in range(3):
        found = store.get(f"5-{index}.npy")
        assert numpy.array_equal(found.data, array[index])
        assert found.data.dtype == array.dtype
        assert (found.seq, found.metadata) == (5, {"run": 1, "_split_index": index})


def test_a4_a_vector_is_split_into_scalars(opened, tmp_path):
    """The sub-arrays of one axis are 0-d."""
    opened().write([Record(numpy.array([7, 8]))])
    assert numpy.load(tmp_path / "0-1.npy").shape == ()


def test_a4_a_template_without_the_index_is_refused(tmp_path):
    """Splitting under a template that names all sub-arrays alike is refused before anything is opened."""
    with pytest.raises(ConfigError, match="_split_index"):
        NpyStore(path="{{ seq }}.npy", root=tmp_path, split=True)


def test_a4_sub_arrays_of_one_name_are_refused(opened, tmp_path):
    """A template that gives two sub-arrays one name all the same writes none of the record."""
    store = opened(path="{{ seq }}-{{ _split_index // 2 }}.npy")
    with pytest.raises(StoreError, match="share a name"):
        store.write([Record(numpy.zeros((3, 2)))])
    assert not list(tmp_path.glob("*.npy"))


@pytest.mark.parametrize("data", [numpy.array(1), numpy.zeros((0, 3)), [1, 2]], ids=["0-d", "empty", "list"])
def test_a4_what_has_no_sub_arrays_is_refused(opened, tmp_path, data):
    """A record without sub-arrays would vanish: it is refused, and its neighbours are written."""
    with pytest.raises(StoreError, match="no sub-arrays") as caught:
        opened().write([Record(data, seq=1), Record(numpy.zeros((1, 2)), seq=2)])
    assert not caught.value.retryable
    assert [path.name for path in tmp_path.glob("*.npy")] == ["2-0.npy"]


def test_a4_a_taken_name_writes_nothing_of_the_record(opened, tmp_path):
    """If one of its names is taken, none of the sub-arrays is written."""
    numpy.save(tmp_path / "0-2.npy", 1)
    with pytest.raises(RecordExistsError):
        opened().write([Record(numpy.zeros((3, 2)))])
    assert [path.name for path in tmp_path.glob("*.npy")] == ["0-2.npy"]


def test_a4_skip_adds_what_is_missing(opened, tmp_path):
    """With skip, as after a crash in the middle of a record, the sub-arrays that are missing are added."""
    numpy.save(tmp_path / "0-1.npy", 1)
    opened(when_exists="skip").write([Record(numpy.zeros((3, 2)))])
    assert [numpy.load(tmp_path / f"0-{n}.npy").shape for n in range(3)] == [(2,), (), (2,)]


def test_numbers_for_names_that_are_taken(opened, tmp_path):
    """With number, each further record of a name gets the next free number, and keeps its own metadata."""
    store = opened(path="image.npy", split=False, when_exists="number")
    store.write([Record(numpy.array(n), metadata={"n": n}) for n in range(4)])
    names = ["image.npy", "image-1.npy", "image-2.npy", "image-3.npy"]
    assert [store.get(name).metadata["n"] for name in names] == [0, 1, 2, 3]
    assert [int(store.get(name).data) for name in names] == [0, 1, 2, 3]


def test_numbers_go_on_after_a_restart(opened, tmp_path):
    """A store that is opened later continues behind the highest number of a series, from any writer."""
    for number in range(1, 100):
        (tmp_path / f"image-{number}.npy").write_bytes(b"")
    (tmp_path / "image.npy").write_bytes(b"")
    opened(path="image.npy", split=False, when_exists="number").write([Record(numpy.array(1))] * 2)
    assert numpy.load(tmp_path / "image-100.npy") == numpy.load(tmp_path / "image-101.npy") == 1


def test_numbers_of_json_files(tmp_path):
    """The json store numbers too."""
    store = JsonStore(path="event.json", root=tmp_path, when_exists="number")
    store.open()
    store.write([Record({"n": 0}), Record({"n": 1})])
    store.close()
    assert sorted(os.listdir(tmp_path)) == ["event-1.json", "event.json"]
