"""Rows E1 and E2: coordinates and sequences of them."""

import copy
import itertools
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.coords import DataCoordinates, DataCoordinatesIterator
from penstock.errors import CoordinatesError

create = DataCoordinatesIterator.create
NAMES = st.sampled_from(["time", "channel", "z", "position", "t2"])
AXES = st.dictionaries(NAMES, st.integers() | st.text(max_size=5))


def test_e1_both_forms_are_the_same():
    """Keywords and a dict make equal coordinates, with the same hash, in any order."""
    one, other = DataCoordinates(time=3, channel="DAPI"), DataCoordinates({"channel": "DAPI", "time": 3})
    assert one == other == {"time": 3, "channel": "DAPI"}
    assert hash(one) == hash(other)
    assert repr(one) == "DataCoordinates(time=3, channel='DAPI')"


@given(AXES)
def test_e1_attributes_and_items_agree(axes):
    """For any axes, attribute, item, iteration, len and `in` agree, and copies are equal."""
    coords = DataCoordinates(axes)
    assert [getattr(coords, name) for name in coords] == [coords[name] for name in coords] == list(axes.values())
    assert len(coords) == len(axes)
    assert all(name in coords for name in axes)
    assert dict(coords) == dict(coords.items()) == axes == coords
    assert coords == DataCoordinates(**axes)
    for same in (pickle.loads(pickle.dumps(coords)), copy.copy(coords), copy.deepcopy(coords)):
        assert same == coords
        assert hash(same) == hash(coords)


@given(AXES, AXES)
def test_e1_equal_means_equal_hash(first, second):
    """Two coordinates are equal if and only if their dicts are, and then one finds the other in a dict."""
    one, other = DataCoordinates(first), DataCoordinates(second)
    assert (one == other) == (first == second) == (one in {other: 1})
    assert one.matches(other) == (second.items() <= first.items())


def test_e1_numpy_integers_become_int():
    """NumPy integers and text are returned as plain int and str."""
    coords = DataCoordinates(time=np.int64(3), z=np.array(2), channel=np.str_("a"))
    assert [type(value) for value in coords.values()] == [int, int, str]


@pytest.mark.parametrize("value", [1.5, 1.0, True, np.bool_(True), np.float32(1), None, b"a", (1,), [1], {"a": 1}])
def test_e1_other_values_are_refused(value):
    """A value that is neither int nor str is rejected by name, and bool is not an int."""
    with pytest.raises(CoordinatesError, match=r"axis 'time': .*use an int or a str"):
        DataCoordinates(time=value)


@pytest.mark.parametrize(
    "name", ["copy", "items", "matches", "update", "_x", "__class__", "a b", "", "1a", "class", "\ufb01", 1, None, (1,)]
)
def test_e1_other_names_are_refused(name):
    """A name that would not work as an attribute, or is a method's, is rejected."""
    with pytest.raises(CoordinatesError, match=r"^axis "):
        DataCoordinates({name: 1})


def test_e1_contradictions_are_refused():
    """An axis given twice with different values is rejected; with the same value it is not."""
    assert DataCoordinates({"time": 3}, time=3, z=1) == {"time": 3, "z": 1}
    with pytest.raises(CoordinatesError, match="'time': is passed twice, as 3 and as 4"):
        DataCoordinates({"time": 3}, time=4)
    with pytest.raises(CoordinatesError, match="must be a mapping"):
        DataCoordinates([1])


CHANGES = {
    "set an attribute": lambda coords: setattr(coords, "time", 4),
    "set an item": lambda coords: coords.__setitem__("time", 4),
    "add an attribute": lambda coords: setattr(coords, "z", 4),
    "add an item": lambda coords: coords.__setitem__("z", 4),
    "remove an attribute": lambda coords: delattr(coords, "time"),
    "remove an item": lambda coords: coords.__delitem__("time"),
}
USES = {
    "hash": hash,
    "a key": lambda coords: {coords: "x"},
    "a record": lambda coords: ps.Record("data", coords=coords),
    "a changed record": lambda coords: ps.Record("data").replace(coords=coords),
    "an iterator": lambda coords: create([coords]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("use", USES)
def test_e1_coordinates_in_use_cannot_be_changed(use, change):
    """Once coordinates are a key or in a record, every change is rejected, and the error has the remedy."""
    coords = DataCoordinates(time=3)
    kept = USES[use](coords)
    for kind in (AttributeError, TypeError, CoordinatesError):
        with pytest.raises(
            kind, match=r"DataCoordinates\(time=3\): in use .*; make new .*DataCoordinates\({\*\*coords, "
        ):
            CHANGES[change](coords)
    assert coords == {"time": 3}
    assert kept


@pytest.mark.parametrize("change", CHANGES)
def test_e1_coordinates_can_be_changed_before_they_are_used(change):
    """Axes are set, added and removed by attribute and by item, with the usual checks, and copies are unaffected."""
    coords = DataCoordinates(time=3)
    others = [DataCoordinates(coords), copy.copy(coords), copy.deepcopy(coords), pickle.loads(pickle.dumps(coords))]
    CHANGES[change](coords)
    assert dict(coords) in ({"time": 4}, {"time": 3, "z": 4}, {})
    assert all(other == {"time": 3} for other in others)
    assert hash(coords) == hash(DataCoordinates(dict(coords)))


def test_e1_a_change_is_checked():
    """A name or value that cannot be an axis at creation cannot become one later, and nothing is changed then."""
    coords = DataCoordinates(time=3)
    coords.position = np.uint8(2)
    assert type(coords.position) is int
    for name, value in (("z", 1.5), ("z", True), ("_z", 1), ("items", 1), ("_axes", {}), ("_hash", 5)):
        with pytest.raises(CoordinatesError, match="axis "):
            setattr(coords, name, value)
    with pytest.raises(AttributeError, match="no axis 'z'; they have: time, position"):
        del coords.z
    with pytest.raises(KeyError):
        del coords["z"]
    assert dict(coords) == {"time": 3, "position": 2}


def test_e1_a_copy_of_coordinates_in_use_can_be_changed():
    """Coordinates made from others, or copied, are not in use; the default ones of records always are."""
    used = DataCoordinates(time=3)
    assert {used: "x"}
    for other in (DataCoordinates(used), DataCoordinates({**used, "z": 1}), copy.copy(used), copy.deepcopy(used)):
        other.position = 2
        assert other.position == 2
    assert used == {"time": 3}
    with pytest.raises(CoordinatesError):
        ps.Record("data").coords.z = 1


def test_e1_the_callers_dict_is_not_shared():
    """Changing the dict afterwards does not change the coordinates."""
    axes = {"time": 3}
    coords = DataCoordinates(axes)
    axes["time"] = 4
    assert coords.time == 3


def test_e1_missing_axis_says_what_there_is():
    """A missing axis is an AttributeError or a KeyError; the first names the existing ones."""
    with pytest.raises(AttributeError, match="no axis 'z'; they have: time"):
        _ = DataCoordinates(time=3).z
    with pytest.raises(KeyError):
        DataCoordinates(time=3)["z"]


def test_e1_matches_a_part():
    """Coordinates match a pattern that names fewer axes, given as keywords, dict or coordinates."""
    coords = DataCoordinates(time=3, channel="DAPI")
    assert coords.matches(time=3)
    assert coords.matches({"channel": "DAPI"})
    assert coords.matches(DataCoordinates())
    assert not coords.matches(time=4)
    assert not coords.matches(time=3, z=1)
    with pytest.raises(CoordinatesError):
        coords.matches(time=1.5)


def test_e1_importing_is_light():
    """Importing and using coordinates imports no numpy."""
    code = (
        "import sys; from penstock.coords import DataCoordinates as C; hash(C(a=1)); assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_e2_create_from_each_form():
    """A list, a generator, one coordinates, a dict, a pattern and nested iterators all yield their coordinates."""
    wanted = [DataCoordinates(time=0), DataCoordinates(time=1)]
    assert list(create([{"time": 0}, DataCoordinates(time=1)])) == wanted
    assert list(create({"time": time} for time in range(2))) == wanted
    assert list(create(DataCoordinates(time=0))) == wanted[:1]
    assert list(create({"time": 0})) == wanted[:1]
    assert list(create({"time": range(2)})) == list(create(time=[0, 1])) == wanted
    assert list(create([create(time=0), {"time": 1}])) == wanted
    assert list(create(create(time=range(2)))) == wanted
    assert list(create([])) == []


def test_e2_product_changes_the_last_axis_fastest():
    """A pattern yields every combination in the order of nested loops."""
    found = [(c.time, c.channel) for c in create(time=range(2), channel=["a", "b"], z=5)]
    assert found == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


def test_e2_infinite_axis_first():
    """A count may be the first axis, with start and step; anywhere else it is rejected."""
    endless = create(time=itertools.count(2, 3), channel=["a", "b"])
    assert [c.time for c in itertools.islice(endless, 5)] == [2, 2, 5, 5, 8]
    assert endless.might_produce_coordinates({"time": 3_000_002, "channel": "b"}) is True
    assert endless.might_produce_coordinates({"time": 3_000_003, "channel": "b"}) is False
    assert list(create(time=itertools.count(), channel=[])) == []
    with pytest.raises(CoordinatesError, match="put it first"):
        create(channel=["a"], time=itertools.count())


def test_e2_infinite_generator_is_remembered():
    """An endless generator can be iterated again, from several threads, and yields the same."""
    endless = create({"time": time} for time in itertools.count())
    assert endless.might_produce_coordinates({"time": 4}) is None
    results = []
    threads = [
        threading.Thread(target=lambda: results.append([c.time for c in itertools.islice(endless, 1000)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [list(range(1000))] * 4
    assert endless.might_produce_coordinates({"time": 4}) is True


def test_e2_loops_nest():
    """Two loops over the same iterator, one in the other, both see everything; next() has its own cursor."""
    coords = create({"z": z} for z in range(3))
    assert next(coords).z == 0
    assert len([(a, b) for a in coords for b in coords]) == 9
    assert next(coords).z == 1


@given(st.dictionaries(NAMES, st.lists(st.integers(-2, 2) | st.sampled_from("ab"), max_size=3), max_size=3), AXES)
def test_e2_might_produce_is_true_of_what_is_produced(axes, other):
    """For a product the answer equals that of an iteration over it."""
    coords = create(axes)
    produced = set(coords)
    assert all(coords.might_produce_coordinates(c) is True for c in produced)
    assert coords.might_produce_coordinates(other) is (DataCoordinates(other) in produced)


def test_e2_might_produce_needs_no_producing():
    """For a product of 10^18 combinations the answer is immediate, and a generator's end makes it final."""
    vast = create(time=range(10**9), z=range(10**9), channel=["a"])
    assert vast.might_produce_coordinates({"time": 5, "z": 10**9 - 1, "channel": "a"}) is True
    assert vast.might_produce_coordinates({"time": 5, "z": 10**9, "channel": "a"}) is False
    assert vast.might_produce_coordinates({"time": 5}) is False
    assert next(iter(vast)) == {"time": 0, "z": 0, "channel": "a"}
    mixed = create(time=range(2), channel=(name for name in "ab"))
    assert mixed.might_produce_coordinates({"time": 1, "channel": "c"}) is None
    assert mixed.might_produce_coordinates({"time": 9, "channel": "c"}) is False
    assert len(list(mixed)) == 4
    assert mixed.might_produce_coordinates({"time": 1, "channel": "c"}) is False


def test_e2_the_class_itself_makes_what_create_makes():
    """Calling the class with anything that `create` takes works, and with anything else raises the same."""
    assert list(DataCoordinatesIterator([{"time": 0}])) == list(DataCoordinatesIterator(time=0)) == [{"time": 0}]
    assert [c.time for c in DataCoordinatesIterator({"time": t} for t in range(3))] == [0, 1, 2]
    for wrong in ((), ([1],), (5,), ({"time": 1.5},)):
        with pytest.raises(CoordinatesError):
            DataCoordinatesIterator(*wrong)


def test_e2_is_finite():
    """An iteration that is known to end is finite; an endless count is not, nor a generator before its end."""
    assert all(create(one).is_finite() for one in ([], [{"time": 1}], {"time": range(9)}, DataCoordinates(), {}))
    assert create([create(time=[1, 2]), {"z": 1}]).is_finite()
    assert not create(time=itertools.count(), z=[1]).is_finite()
    assert not create([create(time=itertools.count())]).is_finite()
    assert create(time=itertools.count(), z=[]).is_finite()
    generated = create({"time": time} for time in range(2))
    assert not generated.is_finite()
    assert len(list(generated)) == 2
    assert generated.is_finite()
    assert not create(channel=(name for name in "ab")).is_finite()


@pytest.mark.parametrize("wrong", [5, "abc", b"abc", None, [1], [{"time": 1.5}], [None], {"time": [1.5]}, {"_x": 1}])
def test_e2_nonsense_is_refused(wrong):
    """Invalid coordinates are rejected when they are given."""
    with pytest.raises(CoordinatesError):
        create(wrong)
    with pytest.raises(CoordinatesError):
        create([{"time": 1}], time=3)


def test_e2_a_failing_generator_fails_again():
    """An error in a generator, or an invalid item, is raised again in the next loop instead of a silent end."""

    def broken():
        yield {"time": 0}
        raise OSError("no stage")

    for bad, error in ((create(broken()), OSError), (create(iter([{"time": 0}, {"time": 0.5}])), CoordinatesError)):
        for _ in range(2):
            with pytest.raises(error):
                list(bad)
        assert bad.might_produce_coordinates({"time": 7}) is None
