"""Odd records: each fails alone at most, and everything that can be kept of it is kept."""

import enum
from pathlib import Path

import attrs
import numpy
import pytest

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.codec import decode, encode_bytes
from penstock.dead_letters import LOG, read_dead_letters
from penstock.errors import CodecError, RecordFieldError
from penstock.record import Record
from penstock.run.steps.salvage import salvaged

FRAME = numpy.arange(64 * 64, dtype="u2").reshape(64, 64)


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Hostile:
    def __repr__(self):
        raise SystemExit("no")


class Roi:
    def __init__(self):
        self.pixels = FRAME
        self.handle = object()


class Kind(enum.Enum):
    ODD = object()


def letters(report):
    return list(read_dead_letters(Path(report.dead_letters)))


def endless():
    found: dict = {"gain": 2}
    found["self"] = [found]
    return found


ODD_FIELDS = {
    "seq": ["7", None, True, 1.5, [], Hostile(), 2**64],
    "time_ns": ["now", 0.5, float("nan"), float("inf"), 10**20],
    "channel": [None, 3, b"c", ["c"], {}, "caf\udce9"],
    "discontinuity": ["yes", 2, None, []],
    "coords": [5, [1], {"z": 0.5}, {"not an axis": 1}],
    "metadata": [5, [1], "text"],
    "parent": [b"packet", {}],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in ODD_FIELDS.items() for value in values],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("where", ["source", "processor", "list"])
def test_a_record_with_an_odd_field_costs_only_itself_and_keeps_its_data(name, value, where):
    """Whatever a field holds, the record is dead-lettered with its data, and its neighbours are stored."""
    good = [Record(FRAME, channel="cam", seq=seq) for seq in range(6)]
    odd = good[3].replace(**{name: value})
    store = ps.store("log", path="all.log")
    if where == "source":
        flow = ps.source([*good[:3], odd, *good[4:]], name="camera") >> store
    elif where == "processor":
        flow = ps.source(good) >> ps.processor(lambda record: odd if record.seq == 3 else record, name="f") >> store
    else:
        flow = ps.source(good) >> ps.processor(lambda record: [odd] if record.seq == 3 else [record], name="f") >> store
    report = ps.Pipeline(flow).run()
    assert (report.stored, report.dead_lettered, report.lost) == (5, 1, 0)
    assert report.balanced
    assert not report.errors
    [letter] = letters(report)
    assert numpy.array_equal(letter.parent.data, FRAME)


def test_a_field_of_a_near_type_is_converted_where_the_record_enters():
    """After the source, every field has the type that `Record` declares."""
    seen = []
    near = Record(
        1,
        seq=numpy.int64(5),
        time_ns=1.7e18,
        channel=numpy.str_("c"),
        coords={"z": numpy.int8(3)},
        metadata=None,
        discontinuity=numpy.bool_(True),
    )
    report = ps.Pipeline(ps.source([near]) >> ps.processor(seen.append) >> ps.store("null")).run()
    [record] = seen
    assert report.ok
    kinds = [type(getattr(record, name)) for name in ("seq", "time_ns", "channel", "coords", "metadata")]
    assert kinds == [int, int, str, ps.DataCoordinates, dict]
    assert record.discontinuity is True
    assert (record.seq, record.time_ns, record.coords.z) == (5, 1_700_000_000_000_000_000, 3)


def test_the_error_names_field_value_and_what_it_must_be():
    """The dead letter names the field to correct."""
    report = ps.Pipeline(ps.source([Record(1, channel="cam", seq=2, time_ns="now")]) >> ps.store("null")).run()
    [letter] = letters(report)
    assert letter.metadata["error"] == f"{RecordFieldError.__module__}.{RecordFieldError.__qualname__}"
    assert "record 2 of channel 'cam': time_ns='now' (str) is wrong: it must be an int" in letter.metadata["message"]
    assert letter.parent.metadata["not_kept"] == {"$.time_ns": "was 'now'"}


DEEP: list = []
for _ in range(200):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "metadata",
    [
        {"roi": Roi()},
        {"a": [{"b": (Hostile(),)}]},
        {"a": numpy.array([1, None, Hostile()], dtype=object)},
        {"a": Kind.ODD},
        {3: 1, "3": 2},
        {"caf\udce9": 1},
        {"a": {Hostile(): 1}},
        {"a": endless()},
        {"a": DEEP},
        {"a": {object(), 1}},
        {"a": numpy.ma.masked_array([1, 2], mask=[True, False])},
        {"a": Record(FRAME, metadata={"x": object()})},
        {"a": "x" * 100_000, "b": [object()] * 1000},
        {"a": type("Big", (), {"__repr__": lambda self: "x" * 10_000_000})()},
    ],
    ids=range(14),
)
def test_a_dead_letter_keeps_all_that_can_be_encoded(metadata):
    """An item that cannot be written affects neither the frame nor the items beside it, and is described."""
    metadata = {"gain": 2, "thumb": FRAME, **metadata}
    kept = decode(encode_bytes(salvaged(Record(FRAME, channel="cam", seq=7, metadata=metadata), CodecError("no"))))
    assert numpy.array_equal(kept.data, FRAME)
    assert (kept.channel, kept.seq) == ("cam", 7)
    assert kept.metadata["gain"] == 2
    assert numpy.array_equal(kept.metadata["thumb"], FRAME)
    assert kept.metadata["not_kept"]
    assert len(encode_bytes(kept)) < 4 * FRAME.nbytes + 1_000_000


@attrs.define
class Picture:
    pixels: object
    driver: object


@pytest.mark.parametrize(
    ("data", "find"),
    [
        ({"left": FRAME, "driver": object()}, lambda data: data["left"]),
        ([object(), FRAME], lambda data: data[1]),
        ((object(), (FRAME,)), lambda data: data[1][0]),
        (Record(FRAME, metadata={"driver": object()}), lambda data: data["data"]),
        (Picture(FRAME, object()), lambda data: data["attributes"]["pixels"]),
        (numpy.array([FRAME, object()], dtype=object), lambda data: data[0]),
    ],
    ids=["dict", "list", "tuple", "record", "object", "object array"],
)
def test_arrays_beside_something_odd_in_the_data_are_kept(data, find):
    """The pixels are kept wherever they are in the data."""
    kept = decode(encode_bytes(salvaged(Record(data), CodecError("no"))))
    assert numpy.array_equal(find(kept.data), FRAME)


def test_an_odd_record_whose_processor_fails_is_kept_and_read_again():
    """The log, the codec and `read_dead_letters` return the records that they were given."""

    def fail(record):
        raise ValueError("boom")

    odd = Record({"frame": FRAME, "driver": Hostile()}, metadata={"roi": Roi(), "gain": 2})
    report = ps.Pipeline(ps.source([odd]) >> ps.processor(fail, name="f") >> ps.store("null")).run()
    [letter] = letters(report)
    assert letter.metadata["message"] == "boom"
    assert numpy.array_equal(letter.parent.data["frame"], FRAME)
    assert numpy.array_equal(letter.parent.metadata["roi"]["attributes"]["pixels"], FRAME)
    assert letter.parent.metadata["gain"] == 2


def failing_run(name):
    def fail(record):
        raise ValueError(name)

    flow = ps.source([Record(name.encode(), channel=name, seq=1)]) >> ps.processor(fail, name="f") >> ps.store("null")
    return Path(ps.Pipeline(flow, name=name).run().dead_letters)


@pytest.mark.parametrize("damage", [b"", b"no log at all", None], ids=["empty", "other", "damaged"])
def test_a_bad_letter_log_does_not_keep_the_others_back(damage):
    """The dead letters of all other runs are replayed; the replaying run names the bad one, and is not ok."""
    first, bad, last = failing_run("a"), failing_run("b"), failing_run("c")
    content = bytearray((bad / LOG).read_bytes())
    content[-5] ^= 255
    (bad / LOG).write_bytes(content if damage is None else damage)
    damaged = []
    found = list(read_dead_letters(first.parent, lambda path, error: damaged.append((path, str(error)))))
    assert [letter.parent.data for letter in found] == [b"a", b"c"]
    assert [path for path, _ in damaged] == [bad / LOG]
    assert str(bad / LOG) in damaged[0][1]
    store = MemoryStore()
    report = ps.Pipeline(ps.source("dead-letters", directory=first.parent) >> ps.store(store)).run()
    assert report.stored == 2
    assert not report.ok
    assert last.exists()
    assert str(bad / LOG) in " ".join(report.problems)


def test_a_letter_of_a_source_enters_behind_it():
    """Records that failed because of odd fields are replayed to the nodes after the source."""
    from penstock.cli.replay import replayed

    def pipeline(items):
        return ps.Pipeline(ps.source(items, name="camera") >> ps.store("log", path="all.log", name="log"))

    report = pipeline([Record(FRAME, seq=1, time_ns="now")]).run()
    again = replayed(pipeline([]), Path(report.dead_letters)).run()
    assert (again.stored, again.ok) == (1, True)
