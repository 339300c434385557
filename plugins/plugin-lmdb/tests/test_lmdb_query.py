"""Reading: keys by order, prefix, time and coordinates; many at once; views without a copy."""

from __future__ import annotations

import random

import lmdb
import numpy
import pytest

from penstock.errors import ConfigError, CoordinatesError, ObjectNotFoundError, StoreError
from penstock.record import Record
from penstock_lmdb import LmdbRecordStore
from penstock_lmdb.index import axis_key, time_key


@pytest.fixture
def make(tmp_path):
    stores = []

    def make_store(**settings):
        store = LmdbRecordStore(**{"path": tmp_path / "a.lmdb", **settings})
        store.open()
        stores.append(store)
        return store

    yield make_store
    for store in stores:
        store.close()


def some(count, seed=0):
    """Records with random coordinates and times, negative ones, texts, large numbers and none among them."""
    chance = random.Random(seed)
    found = []
    for n in range(count):
        coords = {"t": chance.randrange(-20, 20)}
        if chance.random() < 0.7:
            coords["z"] = chance.choice(
                ["DAPI", "GFP", "x" * 500 + str(chance.randrange(3)), 3, 1 << 70, -(1 << 70), 1 << 71]
            )
        found.append(
            Record(
                n, channel=chance.choice("abc"), seq=n, time_ns=chance.randrange(-5, 50), coords=coords if n % 7 else {}
            )
        )
    return found


def fits(value, wanted):
    if not isinstance(wanted, slice):
        return value == wanted
    ends = [end for end in (wanted.start, wanted.stop) if end is not None]
    if any(type(end) is not type(value) for end in ends):
        return False
    return (wanted.start is None or wanted.start <= value) and (wanted.stop is None or value < wanted.stop)


QUERIES = [
    {},
    {"coords": {"t": 3}},
    {"coords": {"t": slice(-3, 10)}},
    {"coords": {"t": slice(None, 0)}},
    {"coords": {"t": slice(5, None), "z": "DAPI"}},
    {"coords": {"z": slice("D", "x" * 500 + "1")}},
    {"coords": {"z": slice(None, "H")}},
    {"coords": {"z": "x" * 500 + "2"}},
    {"coords": {"z": 1 << 70}},
    {"coords": {"z": slice(1 << 70, None)}},
    {"coords": {"z": slice(None, 5)}},
    {"coords": {"z": slice(None, None)}},
    {"coords": {"nothing": 1}},
    {"prefix": "b/"},
    {"prefix": "b/", "coords": {"t": slice(0, 5)}},
    {"from_ns": 0, "to_ns": 10},
    {"from_ns": 40, "prefix": "c/"},
    {"from_ns": 10, "to_ns": 30, "coords": {"t": slice(-9, 9), "z": "GFP"}},
]


@pytest.mark.parametrize("order", ["key", "time"])
@pytest.mark.parametrize("query", QUERIES)
def test_b4_queries_give_what_a_scan_gives(make, query, order):
    """A query gives the keys of those records that match, in its order: as looking at all of them would."""
    store, records = make(), some(700)
    store.write(records)
    gone = records[::5]
    for record in gone[:40]:
        store.delete(store.key_of(record))
    for record in gone[40:80]:
        store.replace(store.key_of(record), record.replace(coords={"t": 3}, time_ns=7))
    expected = []
    for key in list(store.keys()):
        record = store.get(key)
        fitting = all(
            axis in record.coords and fits(record.coords[axis], wanted)
            for axis, wanted in query.get("coords", {}).items()
        )
        in_time = query.get("from_ns", -99) <= record.time_ns < query.get("to_ns", 1 << 60)
        if fitting and in_time and key.startswith(query.get("prefix", "")):
            expected.append((record.time_ns if order == "time" else 0, key))
    assert list(store.query(**query, order=order)) == [key for _, key in sorted(expected)]
    if set(query) == {"coords"}:
        assert list(store.keys(**query["coords"])) == [key for _, key in sorted((0, key) for _, key in expected)]


@pytest.mark.parametrize("wanted", [{"t": slice(0, 10, 2)}, {"t": slice(0, "x")}, {"t": 1.5}, {"1": 2}])
def test_queries_that_cannot_be(make, wanted):
    """A slice with a step, mixed ends, and what cannot be a coordinate are refused before anything is read."""
    with pytest.raises(CoordinatesError):
        make().query(wanted)


@pytest.mark.parametrize(
    "wanted", [{"from_ns": "a"}, {"to_ns": 1.5}, {"from_ns": True}, {"prefix": 3}, {"order": "size"}]
)
def test_selections_that_cannot_be(make, wanted):
    """A time that is not a whole number, a prefix that is not text, and an unknown order are refused by name."""
    with pytest.raises(ConfigError, match=next(iter(wanted))):
        make().query(**wanted)


def test_selections_out_of_range(make):
    """Times beyond 64 bits select as they read, and no key begins with what no key can hold."""
    store = make()
    store.write([Record(n, channel="c", seq=n, time_ns=n) for n in range(3)])
    assert list(store.query(from_ns=10**30)) == list(store.query(to_ns=-(10**30))) == []
    assert len(list(store.query(from_ns=-(10**30), to_ns=10**30))) == 3
    for prefix in ("\ud800", "x" * 512):
        for order in ("key", "time"):
            assert list(store.query(prefix=prefix, order=order)) == []


def test_ordered_keys_sort_as_the_values_do():
    """The bytes of times and of coordinates sort as they do."""
    chance = random.Random(1)
    times = [chance.randrange(-(1 << 63), 1 << 63) for _ in range(300)]
    assert sorted(times) == sorted(times, key=time_key)
    values = [*times, 0, -1, 1]
    assert sorted(values) == sorted(values, key=lambda value: axis_key("t", value))
    texts = ["", "a", "b", "ab", "å", "z" * 50]
    assert sorted(texts) == sorted(texts, key=lambda value: axis_key("t", value))


def test_keys_longest_pass_every_query(make):
    """Keys of 511 bytes come once in every order, also where a query reads in steps."""
    store = make(key="{{ metadata.key }}")
    names = [f"{n:04d}" + "k" * 507 for n in range(1500)]
    store.write([Record(n, seq=n, coords={"t": 1}, metadata={"key": name}) for n, name in enumerate(names)])
    assert list(store.keys()) == names
    assert list(store.query(order="time")) == names
    assert list(store.keys(t=1)) == names


def test_get_many_has_the_length_and_the_order(make):
    """`get_many` gives a record for each key, in their order; what is missing raises with its name, or is None."""
    store = make()
    store.write([Record(n, channel="c", seq=n) for n in range(5)])
    keys = list(store.keys())
    asked = [keys[3], "nothing", keys[0], keys[3], ""]
    found = store.get_many(asked, missing="none")
    assert [record and record.data for record in found] == [3, None, 0, 3, None]
    assert [record.data for record in store.get_many(reversed(keys))] == [4, 3, 2, 1, 0]
    with pytest.raises(ObjectNotFoundError, match="'nothing', ''"):
        store.get_many(asked)


def test_views_inside_reading_copies_elsewhere(make):
    """Inside `reading()` arrays are read-only views of the file as it was then; elsewhere they are copies."""
    store = make()
    store.write([Record(numpy.arange(1000), channel="c", seq=0)])
    (key,) = store.keys()
    assert store.get(key).data.flags.writeable
    with store.reading():
        one, other = store.get(key).data, store.get(key).data
        assert not one.flags.writeable
        assert numpy.shares_memory(one, other)
        store.write([Record(1, channel="c", seq=1)])
        assert len(store) == 1
        with store.reading():
            assert len(list(store.keys())) == 1
        with pytest.raises(StoreError, match=r"inside reading\(\); end the block"):
            store.close()
        del one, other
    assert len(store) == 2


def test_growing_inside_reading_is_an_error(make):
    """A write that must make the map larger inside the same thread's `reading()` is an error, not a deadlock."""
    store = make(map_size=1 << 16)
    with store.reading(), pytest.raises(StoreError, match=r"cannot grow inside reading\(\)"):
        store.write([Record(numpy.zeros(100_000))])
    store.write([Record(numpy.zeros(100_000))])


def test_keys_by_coordinates(make):
    """With key_by="coordinates" each coordinates have one record; one without any is refused by name."""
    store = make(key_by="coordinates", when_exists="replace")
    store.write([Record(n, coords={"z": "a", "t": t}) for n, t in enumerate((10, 9, 10, -1))])
    assert list(store.keys()) == ['t=-00000000001/z="a"', 't=000000000009/z="a"', 't=000000000010/z="a"']
    assert store.get('t=000000000010/z="a"').data == 2
    with pytest.raises(StoreError, match="set its coordinates"):
        store.write([Record(1)])


def test_keys_by_sequence(make):
    """With key_by="sequence" records are numbered as they come, the same one twice too; numbers are not used again."""
    store = make(key_by="sequence")
    store.write([Record(n, channel="c", seq=n) for n in (0, 1, 1)])
    store.delete("0000000000000002")
    store.close()
    store.open()
    store.write([Record(5, channel="c", seq=5)])
    assert list(store.keys()) == ["0000000000000000", "0000000000000001", "0000000000000003"]
    assert store.key_of(Record(5, channel="c", seq=5)) == "0000000000000003"


def test_a_file_of_layout_1_is_indexed(make, tmp_path):
    """Records that an earlier version wrote are found: by a scan when read only, by ordered keys afterwards."""
    store = make()
    store.write([Record(n, channel="c", seq=n, time_ns=-n, coords={"t": n}) for n in range(50)])
    store.close()
    with (
        lmdb.open(str(tmp_path / "a.lmdb"), subdir=False, max_dbs=20) as new,
        lmdb.open(str(tmp_path / "old.lmdb"), subdir=False, max_dbs=20) as old,
        new.begin() as source,
        old.begin(write=True) as target,
    ):
        database = old.open_db(b"records", txn=target)
        for key, value in source.cursor(new.open_db(b"records", txn=source)):
            target.put(key, value, db=database)
    expected = [f"c/{n:012d}" for n in range(3, 6)]
    reader = make(path=tmp_path / "old.lmdb", readonly=True)
    assert list(reader.keys(t=slice(3, 6))) == expected
    reader.close()
    writer = make(path=tmp_path / "old.lmdb")
    assert list(writer.keys(t=slice(3, 6))) == expected
    assert next(iter(writer.query(order="time"))) == f"c/{49:012d}"


def test_a_query_ends_with_its_store(make):
    """Going on with the keys of a store that was closed is an error that says so, and cannot be retried."""
    store = make()
    store.write([Record(n, channel="c", seq=n) for n in range(2000)])
    keys = store.keys()
    next(keys)
    store.close()
    with pytest.raises(StoreError, match="is closed") as caught:
        list(keys)
    assert not caught.value.retryable
