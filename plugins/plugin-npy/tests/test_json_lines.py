"""The json store with `lines=True`: one `.jsonl` a channel."""

from __future__ import annotations

import json

import pytest

from penstock.coords import DataCoordinates
from penstock.errors import ConfigError, RecordExistsError, StoreError
from penstock.record import Record
from penstock.testing import StoreContract
from penstock_npy import JsonStore


class TestJsonStoreOfLines(StoreContract):
    reads_live = True
    many = 500

    def make_store(self, tmp_path):
        return JsonStore(path="{{ channel }}.jsonl", root=tmp_path, lines=True)

    def make_unopenable(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        return JsonStore(path="{{ channel }}.jsonl", root=tmp_path / "file", lines=True)

    def make_data(self, number):
        return {"number": number, "text": "Å", "list": [1, 2.5, None, {"a": []}]}

    def damage(self, tmp_path, key):
        path = tmp_path / key.rpartition("#")[0]
        content = path.read_bytes()
        middle = content.index(b'"number": 1')
        path.write_bytes(content[:middle] + b"}" + content[middle + 1 :])
        return True


@pytest.fixture
def opened(tmp_path):
    """Open stores, and close them at the end."""
    stores = []

    def open_store(**settings):
        store = JsonStore(**{"path": "{{ channel }}.jsonl", "root": tmp_path, "lines": True, **settings})
        store.open()
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close()


def test_a5_one_line_for_each_event(opened, tmp_path):
    """Each record is one line of valid JSON in the file of its channel, with its metadata if asked for."""
    store = opened(merge_metadata=True)
    store.write([Record({"n": n, "x": float("nan")}, channel="a", seq=n, metadata={"run": 7}) for n in range(3)])
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"n": n, "x": "NaN", "metadata": {"run": 7}} for n in range(3)]
    found = store.get("a.jsonl#1")
    assert (found.seq, found.metadata, found.data["n"]) == (1, {"run": 7}, 1)


def test_coordinates(opened):
    """Keys by coordinates are those of the records that match."""
    store = opened()
    store.write([Record({}, channel="a", seq=n, coords=DataCoordinates(z=n % 2)) for n in range(4)])
    assert list(store.keys(z=1)) == ["a.jsonl#1", "a.jsonl#3"]


def test_a_line_that_was_never_finished_is_cut(opened, tmp_path):
    """What a dying process left behind the last line goes, and the next run goes on; a seq that is there is refused."""
    store = opened()
    store.write([Record({"n": 0}, channel="a", seq=0)])
    store.close()
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'{"n": 1')
    store = opened()
    store.write([Record({"n": 1}, channel="a", seq=1)])
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == [{"n": 0}, {"n": 1}]
    with pytest.raises(RecordExistsError):
        store.write([Record({"n": 1}, channel="a", seq=1)])


def test_the_lines_of_somebody_else_stay(opened, tmp_path):
    """A file that the index does not know is added to, and never cut."""
    (tmp_path / "a.jsonl").write_text('{"theirs": 1}')
    opened().write([Record({"n": 0}, channel="a", seq=0)])
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == [{"theirs": 1}, {"n": 0}]


def test_two_stores_of_one_file(opened):
    """While one store writes to a file, another is refused with an error that may be tried again."""
    opened().write([Record({}, channel="a", seq=0)])
    with pytest.raises(StoreError, match="another writer has it open") as caught:
        opened().write([Record({}, channel="a", seq=1)])
    assert caught.value.retryable


@pytest.mark.parametrize("settings", [{"when_exists": "replace"}, {"indent": 2}, {"checksums": "xxh3"}], ids=str)
def test_what_lines_cannot_do(tmp_path, settings):
    """Settings that lines cannot keep are refused when the store is made."""
    with pytest.raises(ConfigError, match="lines"):
        JsonStore(path="a.jsonl", root=tmp_path, lines=True, **settings)
