"""(channel, seq) names each record after every step, and is the same when the same input is processed again."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.runs import Numbers

import penstock as ps
from penstock.builtin.gather import Align, Batch
from penstock.identity import COUNTED, gathered_number, is_leap, named_number, part_number, part_numbers
from penstock.record import Record

SHAPES = st.lists(
    st.one_of(
        st.sampled_from(["value", "record", "new", "none", "own channel"]),
        st.tuples(
            st.sampled_from(["list", "tuple", "generator", "records", "new records", "counted", "channels"]),
            st.integers(0, 4),
        ),
    ),
    min_size=1,
    max_size=12,
)


def result_of(shape, record):
    """Return a processor's results for a record, in one of the allowed forms."""
    kind, count = (shape, 1) if isinstance(shape, str) else shape
    return {
        "value": lambda: record.data,
        "record": lambda: record.replace(data=-1),
        "new": lambda: Record(record.data),
        "none": lambda: None,
        "own channel": lambda: record.replace(channel="out"),
        "list": lambda: list(range(count)),
        "tuple": lambda: tuple(range(count)),
        "generator": lambda: (number for number in range(count)),
        "records": lambda: [record.replace(data=number) for number in range(count)],
        "new records": lambda: [Record(number) for number in range(count)],
        "counted": lambda: [Record(number, channel=record.channel, seq=number) for number in range(count)],
        "channels": lambda: [record.replace(channel=f"out {number % 2}") for number in range(count)],
    }[kind]()


def names_of(pipeline_of, **options):
    """Run records into a list; return their names in order, and the report."""
    found: list[Record] = []

    def keep(record):
        found.append(record)

    report = ps.Pipeline(pipeline_of() >> ps.processor(keep, name="keep"), **options).run()
    return [(record.channel, record.seq) for record in found], report


@settings(max_examples=20, deadline=None)
@given(SHAPES, SHAPES, st.integers(0, 1000))
def test_names_are_unique_behind_processors(first, second, start):
    """For any forms of results in sequence, no two records have the same name; a second run agrees."""
    records = [Record(number, channel="c", seq=start + number) for number in range(30)]

    def flow():
        return (
            ps.source(records)
            >> ps.processor(lambda record: result_of(first[record.seq % len(first)], record), name="first")
            >> ps.processor(lambda record: result_of(second[record.seq % len(second)], record), name="second")
        )

    names, report = names_of(flow)
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert all(0 <= seq < 2**63 for _, seq in names)
    assert names == names_of(flow)[0]
    assert report.balanced


def test_one_value_and_a_list_are_told_apart(tmp_path):
    """A replacing store keeps all results of a processor, one value here and a list there."""

    def some(record):
        return record.data if record.seq % 2 else [record.data, record.data + 1]

    import numpy as np

    store = ps.store("npy", path=str(tmp_path / "{{ seq }}.npy"), when_exists="replace")
    frames = ps.source([np.full(2, number) for number in range(4)])
    report = ps.Pipeline(frames >> ps.processor(some) >> store).run()
    assert report.ok
    assert report.stored == len(list(tmp_path.glob("*.npy"))) == 6


def test_workers_name_alike():
    """Several workers, in any order, yield the same names as one."""

    def flow(**options):
        records = [Record(number, channel="c", seq=number) for number in range(200)]
        return ps.source(records) >> ps.processor(lambda record: [record.data] * (record.seq % 3), **options)

    alone, _ = names_of(flow)
    for ordered in (True, False):
        assert sorted(names_of(lambda o=ordered: flow(workers=3, ordered=o))[0]) == sorted(alone)


def test_a_name_that_comes_twice_is_reported():
    """Two cameras in one channel of a processor are distinguished, and the report names them."""
    cameras = [ps.source([Record(n, channel=name, seq=n) for n in range(5)], name=name) for name in ("a", "b")]

    def flow():
        return cameras >> ps.processor(lambda record: record.replace(channel="both"), name="merge")

    names, report = names_of(flow)
    assert len(set(names)) == 10
    assert not report.ok
    assert any("'merge'" in error and "'both'" in error for error in report.errors)


def lines(sizes, *, own_numbers):
    """Return a decoder class that returns this many records per packet, counted from 0 or named after the packet."""

    @attrs.define(kw_only=True)
    class Lines:
        _count: int = attrs.field(default=0, init=False)

        def decode(self, record):
            given = []
            for _ in range(sizes[record.seq % len(sizes)]):
                given.append(record.replace(seq=self._count if own_numbers else record.seq, parent=record))
                self._count += 1
            return given

        def flush(self):
            return ()

        def reset(self):
            pass

    return Lines


@pytest.mark.parametrize("own_numbers", [False, True], ids=["the packet's", "counted"])
@settings(max_examples=12, deadline=None)
@given(sizes=st.lists(st.integers(0, 3), min_size=1, max_size=5), start=st.integers(0, 50))
def test_names_are_unique_behind_decoders(own_numbers, sizes, start):
    """Records of a decoder are named after its packets, wherever the run began; a single frame has its name."""
    decoder = lines(sizes, own_numbers=own_numbers)

    def flow(first):
        packets = [Record(b"", channel="c", seq=number) for number in range(first, 60)]
        return ps.source(packets) >> ps.decoder(decoder())

    everything, _ = names_of(lambda: flow(0))
    assert len(set(everything)) == len(everything)
    later, _ = names_of(lambda: flow(start))
    assert later == everything[len(everything) - len(later) :]
    singles = [number for number in range(60) if sizes[number % len(sizes)] == 1]
    assert {("c", number) for number in singles} <= set(everything)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 6),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    by_channel=st.booleans(),
    step=st.integers(1, 3),
)
def test_batches_of_other_records_have_other_names(size, cuts, by_channel, step):
    """Over any number of runs, each started and interrupted anywhere, one name is one set of records."""
    named: dict = {}
    for start in [0, *cuts]:
        for end in [*cuts, 40]:
            batch = Batch(size=size, by_channel=by_channel)
            records = [Record(n, channel="ab"[n % 3 == 0], seq=n * step) for n in range(start, end)]
            given = [made for record in records if (made := batch(record)) is not None]
            for made in [*given, *batch.flush()]:
                inside = list(zip(made.metadata["channels"], made.metadata["seqs"], strict=True))
                assert named.setdefault((made.channel, made.seq), inside) == inside


def test_batches_of_one_channel_sort_by_their_records():
    """Batches of one channel have its name, and numbers in the order of their records."""
    batch = Batch(size=5)
    made = [batch(Record(n, channel="c", seq=n)) for n in range(20)]
    batches = [each for each in made if each is not None]
    assert {each.channel for each in batches} == {"c"}
    assert [each.seq for each in batches] == sorted(each.seq for each in batches)


def test_moments_are_named_by_their_records():
    """A moment has the number of its records if they agree; one that lacks a channel has another."""

    def moments(first, missing="none"):
        align = Align(channels=["a", "b"], tolerance_s=0.01, missing=missing, deadline_s=1)
        found = []
        for n in range(first, 6):
            found += align(Record(n, channel="a", seq=n, time_ns=n * 10**9))
            if n != 3:
                found += align(Record(n, channel="b", seq=n, time_ns=n * 10**9))
        return {(each.channel, each.seq): each.metadata["seqs"] for each in [*found, *align.flush()]}

    everything = moments(0)
    assert [seq for _, seq in everything if seq < COUNTED] == [0, 1, 2, 4, 5]
    assert moments(2).items() <= everything.items()


@pytest.mark.parametrize("how", ["skip", "replace"])
def test_a_store_with_keys_has_everything_after_a_restart(tmp_path, how):
    """Batches of a second run, which continues after the first, neither vanish nor replace earlier ones."""
    source = Numbers(count=103)

    def run():
        store = ps.store("npy", path=str(tmp_path / "{{ channel }}-{{ seq }}.npy"), when_exists=how)
        return ps.Pipeline(ps.source(source) >> ps.processor("batch", size=5, stack=True) >> store).run()

    import numpy as np

    assert run().ok
    source.count = 200
    assert run().ok
    assert sorted(n for path in tmp_path.glob("*.npy") for n in np.load(path).tolist()) == list(range(200))


@given(st.lists(st.tuples(st.integers(0, 2**63 - 1), st.lists(st.integers(0, 10**7), max_size=5)), max_size=30))
def test_parts_of_parts_have_numbers_of_their_own(paths):
    """Two records derived in different ways from records of one channel have different numbers of 63 bits."""
    numbers = {}
    for base, path in paths:
        seq = base % 10**12
        for index in path:
            seq = part_number("c", seq, index)
        assert 0 <= seq < 2**63
        numbers[base % 10**12, tuple(path)] = seq
    assert len(set(numbers.values())) == len(numbers)


def test_parts_sort_by_whole_and_index():
    """Sorted by number, parts are sorted by their whole and their index in it, over three levels."""
    found = [n for seq in range(3) for part in part_numbers("c", seq, 4) for n in part_numbers("c", part, 3)]
    assert found == sorted(set(found))
    deeper = [n for part in found for n in part_numbers("c", part, 2)]
    assert deeper == sorted(set(deeper))
    assert min(found) >= COUNTED


def test_numbers_say_when_something_is_missing():
    """A jump between counted numbers is a gap; computed numbers have none."""
    assert is_leap(3, 5)
    assert not is_leap(3, 4)
    assert not is_leap(3, part_number("c", 9, 0))
    assert not is_leap(part_number("c", 1, 5), part_number("c", 2, 0))
    assert named_number("a") != named_number("b")
    assert gathered_number([Record(0, channel="c", seq=5)]) != 5


def test_two_iterables_are_two_channels():
    """The records of an iterable have the name of its node as channel, or the one in `channel=`."""
    left = ps.source([1, 2], channel="left")
    other = ps.source([1, 2], name="right")
    sources = [left, other, ps.source([5]), ps.source([6])]
    names, report = names_of(lambda: sources >> ps.processor(lambda record: record))
    assert report.ok
    assert sorted(names) == [("left", 0), ("left", 1), ("list-2", 0), ("list-3", 0), ("right", 0), ("right", 1)]


class Camera:
    """Counts from 0 each time it is opened; the third read after that fails, twice."""

    def __init__(self):
        self.opened = 0

    def open(self):
        self.opened += 1
        self.next = 0

    def read(self, max_records, timeout_s):
        if self.next >= 4:
            if self.opened == 3:
                raise ps.errors.EndOfSource("switched off")
            raise OSError("the cable is loose")
        self.next += 2
        return [Record(self.opened, channel=channel, seq=self.next - n) for n in (2, 1) for channel in ("l", "r")]

    def close(self):
        pass


def test_a_camera_that_counts_anew_is_continued():
    """A camera that is reopened and counts from 0 continues after its last number, channel by channel."""
    retry = ps.Retry(times=5, wait_initial_s=0.001, wait_max_s=0.001, jitter_s=0.001)
    names, report = names_of(lambda: ps.source(Camera(), retry=retry))
    assert sorted(names) == [(channel, seq) for channel in ("l", "r") for seq in range(12)]
    assert report.dead_lettered == 0
