"""What the files of the json store are."""

from __future__ import annotations

import datetime
import enum
import json
import os
import pathlib
import uuid

import numpy
import pytest

from penstock.errors import CannotConnectToStoreError, CannotGetObjectError, ConfigError, StoreError
from penstock.record import Record
from penstock_npy import JsonStore
from penstock_npy.json_form import json_bytes


class Colour(enum.Enum):
    RED = "red"


class Lamp(enum.IntEnum):
    ON = 1


class Name(enum.StrEnum):
    A = "a"


@pytest.fixture
def opened(tmp_path):
    """Open stores, and close them at the end."""
    stores = []

    def open_store(**settings):
        store = JsonStore(**{"path": "{{ seq }}.json", "root": tmp_path, **settings})
        store.open()
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close()


def test_a5_one_file_per_event(opened, tmp_path):
    """A mapping becomes one object, without its metadata unless these are asked for."""
    opened().write([Record({"counts": [1, 2]}, seq=3, metadata={"run": 7})])
    assert json.loads((tmp_path / "3.json").read_text()) == {"counts": [1, 2]}


def test_files_with_another_suffix(opened, tmp_path):
    """Files may have another suffix, by which they are found again; one that cannot end a name is refused."""
    (tmp_path / "4.json").write_text("{}")
    store = opened(path="{{ seq }}.txt", suffix=".txt")
    store.write([Record({"a": 1}, seq=3)])
    assert json.loads((tmp_path / "3.txt").read_text()) == {"a": 1}
    assert list(store.keys()) == ["3.txt"]
    assert store.get("3.txt").data == {"a": 1}
    for wrong in ("txt", "", ".", ".a/b", ".{{ seq }}", 5):
        with pytest.raises(ConfigError, match="suffix="):
            opened(suffix=wrong)
    with pytest.raises(CannotConnectToStoreError, match=r"must end in '\.txt'"):
        opened(suffix=".txt")


def test_a5_merge_metadata(opened, tmp_path):
    """With merge_metadata, the metadata are in the object under the key "metadata", and come back as such."""
    store = opened(merge_metadata=True)
    store.write([Record({"counts": 1}, seq=0, metadata={"run": 7}), Record([1, 2], seq=1, metadata={"run": 8})])
    assert json.loads((tmp_path / "0.json").read_text()) == {"counts": 1, "metadata": {"run": 7}}
    assert json.loads((tmp_path / "1.json").read_text()) == {"data": [1, 2], "metadata": {"run": 8}}
    found = store.get("1.json")
    assert (found.data, found.metadata) == ([1, 2], {"run": 8})


def test_a5_merge_never_loses_a_key(opened, tmp_path):
    """Data that has a key "metadata" itself is refused rather than overwritten."""
    with pytest.raises(StoreError, match="has a key 'metadata' already"):
        opened(merge_metadata=True).write([Record({"metadata": "mine"}, metadata={"run": 7})])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (numpy.float32(0.5), 0.5),
        (numpy.int64(7), 7),
        (numpy.bool_(True), True),
        (numpy.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (numpy.datetime64("2024-02-29T12:00:00"), "2024-02-29T12:00:00"),
        (datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC), "2024-02-29T00:00:00+00:00"),
        (datetime.timedelta(seconds=1.5), 1.5),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        ({3, 1, 2}, [1, 2, 3]),
        ((1, "Å"), [1, "Å"]),
        (b"\x00\xff", "AP8="),
        (float("nan"), "NaN"),
        (numpy.float32("-inf"), "-Infinity"),
        (numpy.array([1.5, numpy.inf]), [1.5, "Infinity"]),
        ({"deep": [{"x": float("inf")}]}, {"deep": [{"x": "Infinity"}]}),
        (2**80, 2**80),
    ],
    ids=repr,
)
def test_scalars_of_numpy_and_others_have_a_form(value, expected):
    """What metadata hold, also scalars and arrays of numpy, becomes plain JSON, however deep."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(json_bytes({"a": [value]}), parse_constant=refuse) == {"a": [expected]}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (numpy.int64(1), "1"),
        (numpy.uint8(1), "1"),
        (numpy.float32(0.5), "0.5"),
        (numpy.bool_(True), "true"),
        (numpy.str_("a"), "a"),
        (Colour.RED, "red"),
        (Lamp.ON, "1"),
        (Name.A, "a"),
        (1, "1"),
        (True, "true"),
        (None, "null"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
    ],
    ids=repr,
)
def test_keys_become_text(key, text):
    """A key of any kind that has a form as a value has one as a key, at any depth."""
    assert json.loads(json_bytes([{"a": {key: [{key: 2.0}]}}])) == [{"a": {text: [{text: 2.0}]}}]


@pytest.mark.parametrize(
    "value", [{1: "int", "1": "str"}, {True: 1, "true": 2}, {Colour.RED: 1, "red": 2}, {None: 1, "null": 2}], ids=str
)
def test_keys_that_fall_together_are_refused_by_name(opened, value):
    """No value is lost because its key becomes the text of another; the error names both."""
    with pytest.raises(StoreError, match="are both") as caught:
        opened(merge_metadata=True).write([Record({"a": 1}, metadata={"b": [value]})])
    assert all(repr(key) in str(caught.value) for key in value)


def test_text_that_utf_8_cannot_hold_is_escaped():
    """A file name that is not UTF-8 becomes valid JSON in valid UTF-8, and is read back as it was."""
    value = {"caf\udce9": ["ü\udce9"]}
    written = json_bytes(value)
    written.decode("utf-8")
    assert json.loads(written) == value


def test_no_time_is_not_written_as_null():
    """Numpy's NaT is refused, alone and in an array, since null would say something else."""
    for value in (numpy.datetime64("NaT"), numpy.array(["2026-01-01", "NaT"], "M8[s]")):
        with pytest.raises(TypeError, match="NaT"):
            json_bytes({"at": value})


@pytest.mark.parametrize("value", [object(), {(1, 2): 3}, 1j], ids=["object", "tuple", "complex"])
def test_what_has_no_form_is_refused(opened, tmp_path, value):
    """What has no form in JSON is refused with its type, once, and never half-written."""
    with pytest.raises(StoreError) as caught:
        opened().write([Record({"a": value})])
    assert not caught.value.retryable
    assert os.listdir(tmp_path) == []


def test_an_object_that_holds_itself_is_refused(opened):
    """A structure without end is an error, not a crash."""
    data: dict = {}
    data["self"] = data
    with pytest.raises(StoreError, match="Circular"):
        opened().write([Record(data)])


def test_damaged_files(opened, tmp_path):
    """A file that is not JSON is a CannotGetObjectError with its path."""
    store = opened()
    store.write([Record({})])
    (tmp_path / "0.json").write_text('{"half')
    with pytest.raises(CannotGetObjectError, match=r"0\.json"):
        store.get("0.json")


def test_only_ascii(tmp_path):
    """With `only_ascii` the bytes of a file are ASCII, and what is read is the same."""
    store = JsonStore(path=f"{tmp_path}/{{{{ seq }}}}.json", only_ascii=True)
    store.open()
    store.write([Record({"µ": "é"})])
    assert (tmp_path / "0.json").read_bytes() == b'{"\\u00b5": "\\u00e9"}'
    assert store.get("0.json").data == {"µ": "é"}
    store.close()
