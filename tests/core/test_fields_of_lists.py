"""Fields of whole lists are checked in one pass; next to a known record, only the differing fields are."""

import enum
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.fields import (
    OneChannel,
    SeveralChannels,
    all_derived,
    all_exact,
    channels_of,
    exact_channels,
    is_exact,
    joined,
    like,
    part_of,
)
from penstock.report.counters import count_channels

RECORD = ps.Record(1, channel="c", seq=300, time_ns=10**18, coords=ps.DataCoordinates(time=3), metadata={"a": 1})


class Kind(enum.IntEnum):
    ONE = 300


class Text(str):
    """A channel that is not plain text."""


ODD = {
    "seq": [np.int64(300), Kind.ONE, True, None, 300.0],
    "time_ns": [np.int64(5), 1e18, None],
    "channel": [Text("c"), None, b"c"],
    "discontinuity": [1, 0, np.True_, None],
    "coords": [{"time": 3}, None],
    "metadata": [None, [("a", 1)], ps.DataCoordinates(a=1)],
    "parent": [0, "parent"],
}
ODD_CHANGES = [{name: value} for name, values in ODD.items() for value in values]
EXACT_CHANGES = [
    {},
    {"data": 2},
    {"metadata": {}},
    {"coords": ps.DataCoordinates()},
    {"time_ns": 5},
    {"seq": 7},
    {"channel": "d"},
    {"parent": ps.Record(0)},
    {"discontinuity": True},
]


@given(st.lists(st.sampled_from([*EXACT_CHANGES, *ODD_CHANGES]), min_size=1, max_size=6))
@settings(deadline=None)
def test_a_list_is_exact_if_each_of_its_records_is(changes):
    """One pass over a list finds the same as a check of each record, and whether all have one channel."""
    records = [RECORD.replace(**change) for change in changes]
    assert all_exact(records) == all(map(is_exact, records))
    if all_exact(records):
        assert exact_channels(records) == len({record.channel for record in records})


@given(st.lists(st.sampled_from([*EXACT_CHANGES, *ODD_CHANGES]), min_size=1, max_size=6))
@settings(deadline=None)
def test_what_is_derived_has_its_name_and_exact_fields(changes):
    """Results that are taken for derived have the names of their records and fields of the declared types."""
    records = [RECORD] * len(changes)
    results = [record.replace(**change) for record, change in zip(records, changes, strict=True)]
    if all_derived(results, records):
        assert all(map(is_exact, results))
        assert [(result.channel, result.seq) for result in results] == [("c", 300)] * len(results)
    if all(change in EXACT_CHANGES[:4] for change in changes):
        assert all_derived(results, records)


@pytest.mark.parametrize("change", ODD_CHANGES, ids=str)
def test_odd_fields_of_one_result_among_many_are_converted_or_refused(change, tmp_path):
    """A processor that changes data, and in one record a field to another type, emits records with exact fields."""
    stored = []
    last = {**change, "data": "odd"}
    flow = ps.source([RECORD.replace(seq=seq) for seq in range(4)]) >> (
        lambda record: record.replace(**last) if record.seq == 2 else record.replace(data=record.data + 1)
    )
    flow = flow >> ps.processor(lambda record: (stored.append(record), record)[1], name="keep")
    report = ps.Pipeline(flow >> ps.store("memory"), dead_letters=tmp_path / "dead").run()
    assert all(map(is_exact, stored))
    assert {record.seq for record in stored} >= {0, 1, 3} or len(stored) == 4
    assert report.ok == (len(stored) == 4)


def test_parts_and_joined_lists_of_one_channel_are_known_to_have_one():
    """Slices of a list of one channel, and joins of several, keep the known fields, unless they differ."""
    one = OneChannel(RECORD.replace(seq=seq) for seq in range(4))
    other = OneChannel([RECORD.replace(channel="d")])
    assert type(part_of(one, 1, 3)) is OneChannel
    assert [record.seq for record in part_of(one, 1, 3)] == [1, 2]
    assert type(part_of(list(one), 1, 3)) is list
    assert type(joined([one, part_of(one, 0, 1)])) is OneChannel
    assert joined([one]) is one
    assert type(joined([one, other])) is type(joined([one, list(one)])) is type(joined([list(one), one])) is list
    assert joined([one, other]) == [*one, *other]


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=14).filter(lambda names: len(set(names)) > 1))
def test_records_of_several_channels_are_counted_once_for_all(names):
    """What a list knows of its channels is what a look at each record finds, and holds for what is derived from it."""
    records = [ps.Record(0, channel=name, seq=10 + place) for place, name in enumerate(names)]
    known = SeveralChannels.of(records)
    derived = like(known, [record.replace(data=1) for record in records])
    assert type(derived) is SeveralChannels
    for each in (known, derived):
        assert channels_of(each) == set(names)
        assert each.counts == Counter(names)
        assert each.firsts == {name: 10 + names.index(name) for name in names}
        assert each.lasts == {name: 9 + len(names) - names[::-1].index(name) for name in names}
        counted, plainly = Counter(), Counter()
        count_channels(counted, each)
        count_channels(plainly, list(each))
        assert counted == plainly == Counter(names)
    assert type(like(list(known), list(derived))) is type(part_of(known, 0, 2)) is list


def test_a_changed_copy_shares_the_rest():
    """`replace` returns another record with these fields, and rejects unknown fields."""
    changed = RECORD.replace(data=2, seq=5)
    assert (changed.data, changed.seq, changed.coords, changed.metadata) == (2, 5, RECORD.coords, RECORD.metadata)
    assert changed.metadata is RECORD.metadata
    assert changed is not RECORD.replace()
    with pytest.raises(TypeError, match="colour"):
        RECORD.replace(colour=3)


def test_a_changed_copy_puts_its_coordinates_to_use():
    """Coordinates passed to `replace` cannot be changed any more."""
    coords = ps.DataCoordinates(time=4)
    RECORD.replace(coords=coords)
    with pytest.raises(TypeError, match="in use"):
        coords.position = 2
