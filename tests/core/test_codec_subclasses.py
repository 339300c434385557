"""Values of subclasses, and keys that collide, as bytes: read back equal, or rejected."""

import collections
import enum
import types
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import UUID

import numpy
import pytest

from penstock.codec import decode, encode_bytes
from penstock.errors import CodecError
from penstock.record import Record


def sub(kind, **members):
    return type(f"My{kind.__name__}", (kind,), members)


class Plain(enum.Enum):
    RED = "red"
    LIST = ["a"]


class Text(str, enum.Enum):  # noqa: UP042 - its str() is "Text.A", which is the case
    A = "a"


class Number(enum.IntEnum):
    ONE = 1


class Flags(enum.IntFlag):
    A = 1
    B = 2


Point = collections.namedtuple("Point", "x y")
LOUD = {"__str__": lambda self: "other", "__repr__": lambda self: "other", "__int__": lambda self: 7}

EQUAL = [
    (sub(datetime)(2024, 1, 1, 12, 5, 6, 7, tzinfo=UTC), datetime),
    (sub(datetime, isoformat=lambda self: "2000-01-01")(2024, 1, 1), datetime),
    (sub(date)(2024, 1, 1), date),
    (sub(time)(1, 2, 3, 4), time),
    (sub(timedelta, days=property(lambda self: 0))(days=3, microseconds=5), timedelta),
    (sub(Decimal)("1.50"), Decimal),
    (sub(UUID)(int=5), UUID),
    (sub(str, **LOUD)("text"), str),
    (sub(str)("caf\udce9"), str),
    (sub(int, **LOUD)(2**70), int),
    (sub(float, __float__=lambda self: 1.0)(0.25), float),
    (sub(complex)(1 + 2j), complex),
    (sub(bytes)(b"abc" * 3000), bytes),
    (Text.A, str),
    (Number.ONE, int),
    (Flags.A | Flags.B, int),
    (Point(1, sub(str)("y")), tuple),
    (sub(list)([1, sub(int)(2)]), list),
    (collections.OrderedDict(a=1), dict),
    (collections.Counter("aab"), dict),
    (types.MappingProxyType({"a": [1]}), dict),
    ({Text.A: 1, Number.ONE: 2, Point(1, 2): 3}, dict),
    (sub(set)({1, "a"}), set),
    (sub(frozenset)({1, "a"}), frozenset),
    (Path("a/ü"), Path),
    (PurePosixPath("/a"), Path),
    (PureWindowsPath("C:\\x\\y"), PureWindowsPath),
    (sub(PureWindowsPath)("C:\\x"), PureWindowsPath),
]


@pytest.mark.parametrize(("value", "kind"), EQUAL, ids=lambda value: getattr(value, "__name__", ""))
def test_a_subclass_comes_back_equal_and_of_the_type_that_it_derives_from(value, kind):
    """Subclasses are written and read back equal, whatever their methods return."""
    back = decode(encode_bytes(Record({"k": [value]}, metadata={"m": value})))
    for read in (back.data["k"][0], back.metadata["m"]):
        assert kind.__eq__(read, value) is True or read == value
        assert isinstance(read, kind)
        if not issubclass(kind, Path):
            assert type(read) is kind


def test_what_is_not_equal_to_its_built_in_is_refused():
    """A timestamp with nanoseconds, or a number with a unit, is never read back as another."""
    unequal = {"__eq__": lambda self, other: False, "__hash__": lambda self: 1}
    for value in (
        sub(datetime, **unequal)(2024, 1, 1),
        sub(timedelta, **unequal)(1),
        sub(float, **unequal)(1.0),
        sub(Decimal, **unequal)(1),
        sub(str, **unequal)("a"),
    ):
        with pytest.raises(CodecError, match=r"^\$\.metadata\.t: .*My.* is not equal to the"):
            encode_bytes(Record(None, metadata={"t": value}))


class Repeating(collections.abc.Mapping):
    def __getitem__(self, key):
        return 1

    def __iter__(self):
        return iter(["a", "a"])

    def __len__(self):
        return 2


class FrozenMap(dict):
    def __hash__(self):
        return 1


@pytest.mark.parametrize(
    "value",
    [
        {Plain.RED: 1, "red": 2},
        {Plain.RED, "red"},
        {(Plain.RED,): 1, ("red",): 2},
        {Plain.LIST: 1},
        Repeating(),
        {FrozenMap()},
        {FrozenMap(): 1},
    ],
    ids=str,
)
def test_keys_that_would_fall_together_or_could_not_be_read_are_refused(value):
    """No value is lost under a duplicate key, and no unreadable header is written."""
    with pytest.raises(CodecError):
        encode_bytes(Record(value))


class Hostile:
    def __repr__(self):
        raise SystemExit("no")


class Raising(dict):
    def items(self):
        raise KeyError("no")


def test_objects_that_raise_are_refused_as_any_other():
    """Whatever an object raises when it is inspected, the error is a CodecError."""
    released = memoryview(b"abc")
    released.release()
    for value in (
        Hostile(),
        Raising(),
        {Hostile(): Hostile()},
        released,
        memoryview(numpy.array([None], dtype=object)),
    ):
        with pytest.raises(CodecError):
            encode_bytes(Record({"a": value}))
        with pytest.raises(CodecError):
            encode_bytes(Record(None, metadata={"a": value}))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"seq": numpy.int64(5)}, {"seq": 5}),
        ({"time_ns": 1.7e18}, {"time_ns": 1_700_000_000_000_000_000}),
        ({"time_ns": numpy.float64(5)}, {"time_ns": 5}),
        ({"channel": numpy.str_("c")}, {"channel": "c"}),
        ({"channel": Text.A}, {"channel": "a"}),
        ({"discontinuity": 1}, {"discontinuity": True}),
        ({"discontinuity": numpy.bool_(False)}, {"discontinuity": False}),
        ({"coords": {"z": numpy.int64(3)}}, {"coords": {"z": 3}}),
        ({"coords": None}, {"coords": {}}),
        ({"metadata": None}, {"metadata": {}}),
    ],
    ids=str,
)
def test_a_field_of_a_near_type_is_written_as_what_it_means(given, read):
    """NumPy numbers and text, whole floats and the like become the type of the field."""
    back = decode(encode_bytes(Record(b"x", parent=Record(b"y", **given), **given)))
    for record in (back, back.parent):
        for name, value in read.items():
            assert getattr(record, name) == value
            assert name in ("coords", "metadata") or type(getattr(record, name)) is type(value)


@pytest.mark.parametrize(
    "given",
    [
        {"seq": "7"},
        {"seq": True},
        {"seq": None},
        {"seq": 2**64},
        {"time_ns": 0.5},
        {"time_ns": float("nan")},
        {"channel": None},
        {"channel": b"c"},
        {"discontinuity": "no"},
        {"discontinuity": 2},
        {"coords": 5},
        {"metadata": [1]},
        {"parent": "x"},
        {"seq": Hostile()},
    ],
    ids=lambda given: next(iter(given)),
)
def test_a_field_that_means_nothing_is_refused_by_name(given):
    """A record that could not be read back is not written; the error names the field."""
    with pytest.raises(CodecError, match=next(iter(given))):
        encode_bytes(Record(b"x", **given))
