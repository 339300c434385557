"""`from_yaml` reads an equal object from the output of `to_yaml`, or `to_yaml` rejects it and writes nothing."""

from __future__ import annotations

import dataclasses
import enum
import math
import typing
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Literal, NewType
from uuid import UUID

import attrs
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock import YamlConfig
from penstock.compose.graph_file import node_to_plain
from penstock.compose.resolve import build
from penstock.config.same import difference
from penstock.errors import ConfigError, WiringError

SUFFIXES = (".yaml", ".toml", ".json")


class Lights(enum.IntFlag):
    RED = 1
    BLUE = 2


class Doors(enum.Flag):
    LEFT = enum.auto()
    RIGHT = enum.auto()


class Mode(enum.Enum):
    FAST = 1
    SLOW = "slow"
    OTHER = (1, 2)


class Word(enum.StrEnum):
    YES = "yes"
    NO = "no"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Label(str):
    __slots__ = ()


Metres = NewType("Metres", float)


@attrs.define
class Link:
    name: str = "a"
    size: int | None = None


@attrs.define
class Loop:
    name: str = "a"
    size: int | None = None


@dataclasses.dataclass
class Typed:
    type: str = "bytes"
    value: int = 1


def config_of(annotation, value, **more):
    """Return an object of a new class with one field."""
    return dataclasses.make_dataclass("Config", [("v", annotation)], bases=(YamlConfig,), **more)(value)


def written_and_read(folder, made, suffix):
    """Return the object that is read back; None if it was rejected, and nothing was written."""
    file = folder / f"config{suffix}"
    file.unlink(missing_ok=True)
    try:
        made.to_yaml(file)
    except ConfigError:
        assert not list(folder.iterdir()), "something is left of what was refused"
        return None
    return type(made).from_yaml(file)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (bytes | str, b"abc"),
        (bytes | str, "YWJj"),
        (str | bytes, b"abc"),
        (str | Mode, "slow"),
        (str | Mode, Mode.SLOW),
        (Mode | str, "FAST"),
        (Path | str, "a/b"),
        (Path | str, Path("a/b")),
        (str | Path, Path("a/b")),
        (datetime | date, date(2026, 1, 31)),
        (date | datetime, datetime(2026, 1, 31)),
        (date | str, "2026-01-31"),
        (timedelta | float, timedelta(seconds=2)),
        (timedelta | float, 2.0),
        (int | float, 2.0),
        (int | float, 2),
        (float | int, 2),
        (int | str, "2"),
        (int | str, 2),
        (bool | int, 1),
        (int | bool, True),
        (UUID | str, str(UUID(int=7))),
        (Decimal | str, Decimal("1.50")),
        (complex | str, 1 + 2j),
        (list[int] | tuple[int, ...], (1, 2)),
        (list[int] | set[int], {1, 2}),
        (dict[str, int] | Link, {"name": 1}),
        (Link | dict[str, Any], Link("x")),
        (Link | dict[str, Any], {"name": "x"}),
        (Link | Loop, Loop("x", 3)),
        (list[Link | Loop], [Loop("x", 3), Link("y")]),
        (dict[str, Link | Loop | None], {"a": Loop(), "b": Link()}),
        (Typed | Link, Typed()),
        (Typed | dict[str, Any], {"type": "bytes", "value": 2}),
        (Lights, Lights.RED | Lights.BLUE),
        (Lights, Lights(0)),
        (Lights, Lights(8)),
        (Doors, Doors.LEFT | Doors.RIGHT),
        (Doors, Doors(0)),
        (list[Mode], [Mode.FAST, Mode.SLOW, Mode.OTHER]),
        (dict[Mode, int], {Mode.FAST: 1, Mode.SLOW: 2, Mode.OTHER: 3}),
        (dict[int, str], {1: "a", -2: "b"}),
        (dict[bool, str], {True: "a", False: "b"}),
        (dict[int | None, str], {1: "a", None: "b"}),
        (dict[tuple[int, str], int], {(1, "a"): 1}),
        (dict[Path, int], {Path("a"): 1}),
        (dict[date, int], {date(2026, 1, 31): 1}),
        (dict[float, int], {0.5: 1}),
        (timedelta, timedelta(days=99999, microseconds=1)),
        (timedelta, timedelta(days=-1, microseconds=7)),
        (timedelta, timedelta.max),
        (timedelta, timedelta.min),
        (datetime, datetime(2026, 1, 31, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=5, minutes=45)))),
        (time, time(22, 22, tzinfo=UTC)),
        (float, math.nan),
        (float, -math.inf),
        (float, -0.0),
        (float, 5e-324),
        (float, 1e22),
        (int, 10**300),
        (str, "null"),
        (str, "true"),
        (str, "yes"),
        (str, "1e3"),
        (str, "0x10"),
        (str, "0o10"),
        (str, "010"),
        (str, "22:22"),
        (str, "2026-01-31"),
        (str, "1_000"),
        (str, "~"),
        (str, ""),
        (str, "<<"),
        (str, "="),
        (str, "a\nb\r\n  c\n\n"),
        (str, "\x00\x07\x1b\x7f\x85\u2028\ufeff"),
        (str, " # no comment: "),
        (dict[str, Any], {"<<": 1, "": 2, "on": [1, True, -0.0]}),
        (Literal["a", 1, True], True),
        (Literal[Mode.SLOW, 1], Mode.SLOW),
        (Metres, Metres(2.5)),
        (Label, Label("x")),
        (set[tuple[int, int]], {(1, 2), (0, 5)}),
        (frozenset[Mode], frozenset({Mode.FAST, Mode.SLOW})),
        (np.float32, np.float32(0.1)),
        (np.int8, np.int8(-3)),
        (np.bool_, np.bool_(True)),
        (npt.NDArray[np.uint16], np.array([[1, 2]], "u2")),
        (np.ndarray, np.array([[1, 2]], "f4")),
        (np.ndarray, np.zeros((0, 3))),
        (np.ndarray | None, np.array([-0.0, np.inf])),
        (np.ndarray, np.array([[np.nan, -np.inf]])),
        (Any, None),
        (Literal[None, "null"], None),
        (PureWindowsPath, PureWindowsPath("C:/a")),
        (tuple[int, str, Path | None], (1, "a", Path("b"))),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_c1_every_kind_of_field_comes_back(tmp_path, annotation, value, suffix):
    """Unions, flags, keys that are not text, odd numbers and odd text are read back by value and type."""
    made = config_of(annotation, value)
    read = written_and_read(tmp_path, made, suffix)
    assert read is not None, "was refused"
    assert type(read.v) is type(value)
    assert difference(made, read) is None


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Any, (1, 2)),
        (Any, Path("a")),
        (Any, {1: 2}),
        (Any, Mode.FAST),
        (Any, b"x"),
        (Any, Link()),
        (Any, np.float64(1)),
        (object, {1, 2}),
        (list, [(1, 2)]),
        (dict, {"a": {1: 2}}),
        (str, Label("x")),
        (str, "caf\udce9"),
        (dict[str, int], {"caf\udce9": 1}),
        (int, "1"),
        (float, 2**53 + 1),
        (int, np.float64(1.5)),
        (list[Any], [np.int64(1)]),
        (PurePath, PureWindowsPath("C:/a")),
        (dict[Any, int], {1: 1, "1": 2}),
        (dict[int | str, int], {1: 2}),
        (int, 10**5000),
        (Any, np.longdouble(1)),
        (Link, Typed()),
        (Literal["a"], "b"),
        (typing.Sequence[int], (1, 2)),
        (float, Decimal("1")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, int) else ascii(value)[:50],
)
def test_c1_what_would_come_back_as_something_else_is_refused(tmp_path, annotation, value, suffix):
    """A value that does not match its field's annotation is a ConfigError that names it; no file is created."""
    with pytest.raises(ConfigError, match=r"\$"):
        config_of(annotation, value).to_yaml(tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, np.int64(1), 1),
        (float, np.float32(0.1), float(np.float32(0.1))),
        (float, np.float64(2.5), 2.5),
        (float, np.uint8(3), 3.0),
        (bool, np.bool_(True), True),
        (str, np.str_("a"), "a"),
        (int | None, np.uint16(7), 7),
        (list[float], [np.float64(1.5), 2.0], [1.5, 2.0]),
        (tuple[int, str], (np.int8(1), "a"), (1, "a")),
        (tuple[int, ...], (np.int8(1), 2, np.int64(3)), (1, 2, 3)),
        (dict[str, float] | None, {"a": np.float64(0.5)}, {"a": 0.5}),
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_c1_scalars_of_numpy_are_read_as_those_of_python(tmp_path, annotation, value, expected, suffix):
    """In a field annotated with a type of Python, a scalar of numpy is written, and read back as the equal value."""
    read = written_and_read(tmp_path, config_of(annotation, value), suffix)
    assert read is not None, "was refused"
    assert read.v == expected
    assert type(read.v) is type(expected)


@attrs.define
class Optionals(YamlConfig):
    a: int | None
    b: Link | None
    c: dict[str, int | None] | None = None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_c1_nothing_but_none_comes_back(tmp_path, suffix):
    """An object whose fields are all None is written and read, in TOML, which has no null, too."""
    made = Optionals(None, None)
    assert written_and_read(tmp_path, made, suffix) == made


@attrs.define
class Defaulted(YamlConfig):
    a: int | None = 5


def test_c1_none_that_toml_would_lose_is_refused(tmp_path):
    """None in a field with another default, or in a list or dict, is rejected in TOML with an alternative."""
    for made in (Defaulted(None), Optionals(1, None, {"a": None}), config_of(list[int | None], [1, None])):
        with pytest.raises(ConfigError, match="None"):
            made.to_yaml(tmp_path / "a.toml")
        made.to_yaml(tmp_path / "a.yaml")
        assert type(made).from_yaml(tmp_path / "a.yaml") == made
        (tmp_path / "a.yaml").unlink()
    assert not list(tmp_path.iterdir())


def test_c1_a_refused_value_leaves_the_old_file(tmp_path):
    """An object is rejected before the file is touched."""
    file = tmp_path / "a.yaml"
    config_of(Any, 1).to_yaml(file)
    with pytest.raises(ConfigError, match=r"a\.yaml: \$\.v: tuple \(1, 2\) is read back as list \[1, 2\]"):
        config_of(Any, (1, 2)).to_yaml(file)
    assert file.read_text() == "v: 1\n"


def test_c1_directories_that_are_missing_are_made(tmp_path):
    """to_yaml makes the directories of its file, if it writes one."""
    with pytest.raises(ConfigError):
        config_of(Any, (1,)).to_yaml(tmp_path / "a" / "b" / "c.yaml")
    assert not list(tmp_path.iterdir())
    config_of(int, 1).to_yaml(tmp_path / "a" / "b" / "c.yaml")
    assert (tmp_path / "a" / "b" / "c.yaml").read_text() == "v: 1\n"


@attrs.define
class Camera:
    rate: int = 30


@attrs.define
class Old(YamlConfig):
    camera: Camera = attrs.field(factory=Camera)
    either: Link | Camera | None = None


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_c1_an_old_file_is_read_without_its_unknown_keys(tmp_path, caplog, suffix):
    """unknown="ignore" reads a file with obsolete keys, at any depth, and names them in the log."""
    file = tmp_path / f"old{suffix}"
    file.write_text(
        '{"gone": 1, "camera": {"rate": 5, "binning": 2}, "either": {"rate": 7, "lost": 1, "type": "Camera"}}'
    )
    with pytest.raises(ConfigError, match="unknown key 'gone'"):
        Old.from_yaml(file)
    assert Old.from_yaml(file, unknown="ignore") == Old(Camera(5), Camera(7))
    assert caplog.messages == [f"{file}: keys that are unknown are ignored: Old.gone, Camera.binning, Camera.lost"]
    with pytest.raises(ConfigError, match="must be 'error' or 'ignore'"):
        Old.from_yaml(file, unknown="drop")


def test_c1_ignoring_unknown_keys_ignores_nothing_else(tmp_path):
    """A value of the wrong type is an error even if unknown keys are ignored."""
    (tmp_path / "a.yaml").write_text("camera: {rate: fast, x: 1}\n")
    with pytest.raises(ConfigError, match=r"\$\.camera\.rate: expected int"):
        Old.from_yaml(tmp_path / "a.yaml", unknown="ignore")


def test_c1_surrogates_in_a_file_are_refused(tmp_path):
    """A lone surrogate, which JSON can write, is not text."""
    (tmp_path / "a.json").write_text('{"v": "\\ud800"}')
    with pytest.raises(ConfigError, match="surrogate"):
        type(config_of(str, "")).from_yaml(tmp_path / "a.json")


# -- generated classes and values --------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["null", "true", "yes", "1e3", "0x10", "010", "22:22", "FAST", "slow", "YWJj", "2026-01-31", "a/b"]
)
FLOATS = st.floats() | st.sampled_from([-0.0, 1e22, 2.0])
LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers() | st.integers(10**18, 10**40),
    float: FLOATS,
    str: WORDS | st.text() | st.text(st.characters()),
    bool: st.booleans(),
    bytes: st.binary(max_size=8),
    complex: st.complex_numbers(),
    type(None): st.none(),
    Path: st.sampled_from([Path("a/b"), Path("/"), Path("1"), Path("2026-01-31")]),
    PurePosixPath: st.sampled_from([PurePosixPath("a/b")]),
    datetime: st.datetimes(timezones=st.none() | st.just(UTC)),
    date: st.dates(),
    time: st.times(),
    timedelta: st.timedeltas(),
    UUID: st.uuids(),
    Decimal: st.decimals(),
    Lights: st.integers(0, 3).map(Lights),
    Mode: st.sampled_from(Mode),
    Word: st.sampled_from(Word),
    Level: st.sampled_from(Level),
    np.float32: st.floats(width=32).map(np.float32),
    np.int16: st.integers(-(2**15), 2**15 - 1).map(np.int16),
    Link: st.builds(Link, st.text(), st.none() | st.integers()),
    Loop: st.builds(Loop, WORDS),
    Typed: st.builds(Typed, WORDS, st.integers()),
    Any: st.integers() | WORDS | st.tuples(st.integers()) | st.dates() | st.lists(FLOATS) | st.binary(),
}
KEYS = [str, int, bool, Mode, Level, Lights, date, Path, type(None), float, UUID]


def typed_values() -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    """Draw an annotation, and a strategy for its values."""
    leaf = st.sampled_from(list(LEAVES.items()))
    return st.recursive(leaf, _wider, max_leaves=4)


def _wider(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    unions = st.lists(inner, min_size=2, max_size=3).map(
        lambda parts: (typing.Union[tuple(kind for kind, _ in parts)], st.one_of([values for _, values in parts]))  # noqa: UP007 - of what is drawn
    )
    lists = inner.map(lambda part: (list[part[0]], st.lists(part[1], max_size=3)))
    tuples = inner.map(lambda part: (tuple[part[0], ...], st.lists(part[1], max_size=3).map(tuple)))
    keys = st.sampled_from(KEYS) | st.lists(st.sampled_from(KEYS), min_size=2, max_size=2).map(
        lambda two: typing.Union[tuple(two)]  # noqa: UP007 - of what is drawn
    )
    mappings = st.tuples(keys, inner).map(
        lambda pair: (dict[pair[0], pair[1][0]], st.dictionaries(_of_key(pair[0]), pair[1][1], max_size=3))
    )
    return unions | lists | tuples | mappings


def _of_key(key: Any) -> st.SearchStrategy[Any]:
    return LEAVES[key] if key in LEAVES else st.one_of([LEAVES[one] for one in typing.get_args(key)])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), suffix=st.sampled_from(SUFFIXES))
def test_c1_whatever_is_written_is_read_back_the_same(tmp_path_factory, data, suffix):
    """Generated classes and values are written and read back equal, by value and type, or rejected as a whole."""
    kind, values = data.draw(typed_values())
    made = config_of(kind, data.draw(values))
    folder = tmp_path_factory.getbasetemp() / "generated"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    read = written_and_read(folder, made, suffix)
    assert read is None or difference(made, read) is None


# -- pipelines, which are written by the same means --------------------------------------------------------------------


@attrs.define(kw_only=True)
class Kept:
    """A store with settings that are easy to get wrong."""

    key: bytes | str = "x"
    limit: int | None = 5
    more: Any = None

    def open(self) -> None: ...
    def write(self, records) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...


def pipeline_to(store):
    return ps.Pipeline(ps.source([1], name="in") >> ps.store(store, name="out"))


def test_d1_settings_of_a_given_component_are_read_back_as_they_are():
    """Bytes in a field of bytes or text are read back as bytes, even if base64 would be text."""
    node = node_to_plain(pipeline_to(Kept(key=b"abc")).nodes[1])
    assert build(Kept, node["settings"]) == Kept(key=b"abc")


def test_d1_a_pipeline_that_would_be_read_as_another_is_not_written(tmp_path):
    """A tuple that would become a list, and a None that TOML omits, are rejected with the node or the path."""
    with pytest.raises(WiringError, match=r"node 'out'.*\$\.more: tuple \(1,\) is read back as list"):
        node_to_plain(pipeline_to(Kept(more=(1,))).nodes[1])
    named = ps.Pipeline(ps.source("files", directory="a") >> ps.store("memory", max_bytes=None))
    with pytest.raises(ConfigError, match=r"\$\.nodes\[1\]\.settings\.max_bytes is None, which TOML cannot hold"):
        named.to_toml()
    with pytest.raises(ConfigError, match="TOML cannot hold"):
        named.write(tmp_path / "a.toml")
    named.write(tmp_path / "a.yaml")
    assert ps.Pipeline.read(tmp_path / "a.yaml") == named
