"""After a fan-out, no node can change the records of another."""

import contextlib
import copy
import json
import pickle

import numpy
import pytest

import penstock as ps
from penstock.codec import decode, encode_bytes
from penstock.errors import PenstockError, ReadOnlyError
from penstock.handler import DataHandler
from penstock.read_only import ReadOnlyDict, ReadOnlyList, ReadOnlySet, frozen_value, owned, read_only
from penstock.record import Record


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def record():
    data = {"left": [numpy.arange(3)], "n": 1, "both": (numpy.arange(2), [1])}
    metadata = {"tags": ["a"], "nested": {"x": {1}}, "thumb": numpy.arange(3)}
    return Record(data, seq=0, metadata=metadata, parent=Record(numpy.arange(3), metadata={"a": [1]}))


def kept(flow, into):
    """Return the flow with a store at its end, and the records that arrive there in a list."""
    return flow >> ps.processor(lambda each: into.append(each)) >> ps.store("null")


CHANGES = {
    "metadata": lambda r: r.metadata.__setitem__("mean", 3),
    "update": lambda r: r.metadata.update(mean=3),
    "delete": lambda r: r.metadata.pop("tags"),
    "nested list": lambda r: r.metadata["tags"].append("b"),
    "nested dict": lambda r: r.metadata["nested"].setdefault("y", 1),
    "nested set": lambda r: r.metadata["nested"]["x"].add(2),
    "nested array": lambda r: r.metadata["thumb"].__setitem__(0, 9),
    "data": lambda r: r.data.__setitem__("n", 2),
    "list in data": lambda r: r.data["left"].clear(),
    "array in data": lambda r: r.data["left"][0].__setitem__(0, 9),
    "in a tuple": lambda r: r.data["both"][0].__setitem__(0, 9),
    "parent": lambda r: r.parent.data.__setitem__(0, 9),
    "metadata of the parent": lambda r: r.parent.metadata["a"].append(2),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_viewer_cannot_change_what_the_archive_gets(change):
    """A change in one branch raises there, and does not affect the other branch."""
    archive, given = [], record()
    source = ps.source([given])
    viewer = source >> ps.processor(change, name="viewer")
    report = ps.Pipeline(viewer >> ps.store("null"), kept(source, archive)).run()
    assert report.account.node("viewer").dead_lettered == 1
    [stored] = archive
    assert repr(stored.data) == repr(given.data)
    assert repr(stored.metadata) == repr(given.metadata)


def test_the_empty_metadata_that_records_begin_with_are_shared_too():
    """A tag on a record without metadata does not reach the archive either."""
    archive, source = [], ps.source([1, 2])

    def tag(each):
        each.metadata["tag"] = 1

    ps.Pipeline(source >> tag >> ps.store("null"), kept(source, archive)).run()
    assert [dict(each.metadata) for each in archive] == [{}, {}]


def test_the_error_names_the_remedy_and_the_remedy_works():
    """`with_metadata` returns a new record; the original is unchanged."""
    shared = read_only(Record(1, metadata={"run": 7}))
    with pytest.raises(ReadOnlyError, match=r"record\.with_metadata\(mean=") as caught:
        shared.metadata["mean"] = 3
    assert isinstance(caught.value, PenstockError)
    assert isinstance(caught.value, TypeError)
    mine = shared.with_metadata(mean=3)
    assert mine.metadata == {"run": 7, "mean": 3}
    assert shared.metadata == {"run": 7}
    mine.metadata["more"] = 1
    assert mine.with_metadata({"exposure [ms]": 5}, run=8).metadata == {
        "run": 8,
        "mean": 3,
        "more": 1,
        "exposure [ms]": 5,
    }


def test_without_a_fan_out_nothing_is_made_read_only():
    """Without a fan-out a record belongs to its holder, and is the same object."""
    seen, given = [], record()
    ps.Pipeline(ps.source([given]) >> seen.append >> ps.store("null")).run()
    assert seen[0] is given


def test_arrays_are_not_copied():
    """Making a record read-only copies no array."""
    given = record()
    shared = read_only(given)
    assert numpy.shares_memory(shared.data["left"][0], given.data["left"][0])
    assert numpy.shares_memory(shared.parent.data, given.parent.data)
    assert read_only(shared) is shared


def test_in_place_gets_copies_of_its_own():
    """A processor with `in_place = True` may change data and metadata, without effect on others."""

    class Scale:
        in_place = True

        def __call__(self, each):
            each.data["left"][0][:] = 9
            each.metadata["tags"].append("scaled")
            return each

    archive, scaled, source = [], [], ps.source([record()])
    assert ps.Pipeline(kept(source >> ps.processor(Scale()), scaled), kept(source, archive)).run().ok
    [left], [changed] = archive, scaled
    assert (list(left.data["left"][0]), list(changed.data["left"][0])) == ([0, 1, 2], [9, 9, 9])
    assert (left.metadata["tags"], changed.metadata["tags"]) == (["a"], ["a", "scaled"])
    assert owned(given := record()) is given


def test_a_function_of_three_may_change_the_metadata_that_it_returns():
    """It has no record to call `with_metadata` on, so it gets its own dict."""

    def mean(coords, data, metadata):
        metadata["mean"] = 1
        return coords, data, metadata

    archive, tagged, source = [], [], ps.source([1])
    assert ps.Pipeline(kept(source >> mean, tagged), kept(source, archive)).run().ok
    assert [dict(each.metadata) for each in tagged] == [{"mean": 1}]
    assert [dict(each.metadata) for each in archive] == [{}]


def test_what_a_handler_gives_while_it_processes_is_read_only():
    """Data returned while the processor has them cannot be changed, nor can the putter change them."""
    metadata = {"tags": ["a"]}
    with DataHandler(ps.store("memory")) as handler:
        handler.put({"n": 1}, {"image": numpy.zeros(2)}, metadata)
        metadata["tags"].append("b")
        found = handler.get({"n": 1}, processed=None, timeout_s=10)
        handler.finish()
        assert handler.get_metadata({"n": 1})["tags"] == ["a"]
    assert found[1]["tags"] == ["a"]


CONTAINERS = [ReadOnlyDict(a=[1]), ReadOnlyList([1, [2]]), ReadOnlySet({1, 2})]


@pytest.mark.parametrize("value", CONTAINERS, ids=lambda value: type(value).__name__)
def test_they_are_what_they_stand_for_to_everybody_else(value):
    """Equal to the plain container, and plain again after pickle, copy and the codec."""
    plain = type(value).__mro__[1]
    assert isinstance(value, plain)
    copies = [pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value), value.copy()]
    copies += [
        decode(encode_bytes(Record(value))).data,
        decode(encode_bytes(Record(0, metadata={"k": value}))).metadata["k"],
    ]
    for each in copies:
        assert type(each) is plain
        assert each == value
    if plain is not set:
        assert json.loads(json.dumps(value)) == value


def test_every_method_that_changes_a_container_is_refused():
    """No method of dict, list or set that changes it is available."""
    for value in CONTAINERS:
        plain = type(value).__mro__[1]
        before = plain(value)
        for name in dir(plain):
            method = getattr(value, name)
            for arguments in [(), (0,), (0, 1), ([3],), ({5: 1},)]:
                if name not in (
                    "__init__",
                    "__class__",
                    "__setattr__",
                    "__delattr__",
                    "__reduce_ex__",
                    "__init_subclass__",
                ):
                    with contextlib.suppress(Exception):  # most do not take these arguments
                        method(*arguments)
        assert value == before


def test_stores_take_read_only_records(tmp_path):
    """Every store writes the same with and without a fan-out."""
    given = Record(numpy.arange(3), seq=1, channel="c", metadata={"tags": ["a"], "nested": {"x": 1}})
    source = ps.source([given])
    flows = [
        source >> ps.store("lmdb", path="a.lmdb"),
        source >> ps.store("npy", path="a/{{ seq }}.npy", sidecar="json"),
        source >> ps.store("log", path="a.log"),
        source
        >> ps.processor(lambda each: each.replace(data=each.metadata), name="meta")
        >> ps.store("json", path="a/{{ seq }}.json"),
    ]
    assert ps.Pipeline(*flows).run().ok
    assert json.loads((tmp_path / "a" / "1.json").read_text()) == {"tags": ["a"], "nested": {"x": 1}}


def test_a_bytearray_and_a_memoryview_cannot_be_written_to():
    """Writable bytes are shared as read-only ones."""
    assert frozen_value(bytearray(b"abc")) == b"abc"
    assert frozen_value(memoryview(bytearray(b"abc"))).readonly
