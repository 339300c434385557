"""Row C1: classes of settings to and from files, strictly."""

import dataclasses
import enum
import os
import pathlib
import re
import subprocess
import sys
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import attrs
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.config import YamlConfig, from_plain, read_config, to_plain, write_config
from penstock.errors import ConfigError


class Binning(enum.IntEnum):
    ONE = 1
    TWO = 2


class Trigger(enum.StrEnum):
    EDGE = "edge"


class Serial(str):
    """A user's subclass of str."""


@attrs.frozen
class Subclasses(YamlConfig):
    binning: Binning = Binning.TWO
    trigger: Trigger = Trigger.EDGE
    serial: Serial = attrs.Factory(lambda: Serial("a1"))
    gain: np.float64 = attrs.Factory(lambda: np.float64(0.5))
    by_trigger: dict[Trigger, list[Binning]] = attrs.Factory(lambda: {Trigger.EDGE: [Binning.ONE]})
    either: Binning | None = Binning.ONE


class Mode(enum.Enum):
    FAST = "fast"
    SLOW = "slow"
    BOTH = (1, 2)


@attrs.define(kw_only=True)
class Camera:
    rate: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    name: str = "left"
    mode: Mode = Mode.FAST


@dataclasses.dataclass
class Link:
    host: str = "localhost"
    port: int = 1


@attrs.frozen
class Loop:
    host: str = "loop"
    port: int = 2


@attrs.define(kw_only=True)
class Settings(YamlConfig):
    camera: Camera = attrs.Factory(Camera)
    cameras: list[Camera] = attrs.Factory(list)
    by_name: dict[str, Camera] = attrs.Factory(dict)
    path: pathlib.Path = pathlib.Path("a")
    pair: tuple[int, str] = (1, "a")
    many: tuple[int, ...] = ()
    numbers: set[int] = attrs.Factory(set)
    frozen: frozenset[str] = frozenset()
    day: date = date(2026, 1, 1)
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    clock: time = time(1, 2)
    span: timedelta = timedelta(0)
    limit: int | None = None
    link: Link | Loop | None = None
    choice: typing.Literal["a", 1, None] = "a"
    numbered: Mapping[int, str] = attrs.Factory(dict)
    sequence: Sequence[float] = attrs.Factory(list)
    anything: typing.Any = None
    function: Callable[[int], int] | None = None
    size: int | float | str = 1
    mode: Mode = Mode.BOTH
    id: uuid.UUID = attrs.field(factory=lambda: uuid.UUID(int=1))
    price: Decimal = Decimal("1.50")
    key: bytes = b"\0\xff"
    on: bool = True
    single: np.float32 = attrs.field(factory=lambda: np.float32(0.5))
    matrix: npt.NDArray[np.int16] = attrs.field(
        factory=lambda: np.zeros((2, 2), np.int16), eq=attrs.cmp_using(eq=np.array_equal)
    )
    hidden: int = attrs.field(init=False, default=5)


@dataclasses.dataclass
class Plain(YamlConfig):
    rate: float = 1.0
    links: list[Link] = dataclasses.field(default_factory=list)


FULL = Settings(
    camera=Camera(rate=0.1, mode=Mode.SLOW),
    cameras=[Camera(), Camera(name="ü: [#'\"\n")],
    by_name={"a.b": Camera(), "on": Camera()},
    path=pathlib.Path("/data/ü"),
    pair=(-5, "1e3"),
    many=(1, 2, 3),
    numbers={3, 1, 2},
    frozen=frozenset({"yes", "null", "12:30:00"}),
    day=date(1, 1, 1),
    at=datetime(2026, 1, 2, 3, 4, 5, 6),
    span=timedelta(days=-1, microseconds=1),
    limit=5,
    link=Link("h", 3),
    choice=1,
    numbered={1: "a", -2: "b"},
    sequence=[1.5, float("inf")],
    anything={"a": [1, None, "x"]},
    size=2.5,
    on=False,
    single=np.float32(1.25),
    matrix=np.array([[1, -2]], np.int16),
)


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json", ".toml"])
@pytest.mark.parametrize("made", [FULL, Settings(), Settings(link=Loop()), Plain(2.0, [Link(), Link("x", 5)])])
def test_c1_settings_come_back(tmp_path, made, suffix):
    """An object with fields of every kind is read back equal and with the same types from each kind of file."""
    if suffix == ".toml":
        made = attrs.evolve(made, anything={"a": [1, "x"]}) if made is FULL else made  # TOML has no null
    file = tmp_path / f"settings{suffix}"
    made.to_yaml(file)
    back = type(made).from_yaml(str(file))
    assert back == made
    for name in to_plain(made):
        assert type(getattr(back, name)) is type(getattr(made, name))


def test_c1_subclasses_of_numbers_and_text_come_back(tmp_path):
    """Enums of int and str, NumPy numbers that are floats, and users' classes are read back with their types."""
    Subclasses().to_yaml(tmp_path / "a.yaml")
    back = Subclasses.from_yaml(tmp_path / "a.yaml")
    assert back == Subclasses()
    for name in to_plain(back):
        assert type(getattr(back, name)) is type(getattr(Subclasses(), name))
    assert type(back.by_trigger[Trigger.EDGE][0]) is Binning
    for wrong, message in (
        ({"binning": 3}, r"\$\.binning: expected one of 1, 2, got int 3"),
        ({"trigger": "level"}, r"\$\.trigger: expected one of 'edge', got str 'level'"),
        ({"serial": 1}, r"\$\.serial: expected str, got int 1"),
        ({"gain": "x"}, r"\$\.gain: expected float64, got str 'x'"),
    ):
        with pytest.raises(ConfigError, match=message):
            from_plain(Subclasses, wrong)


def test_c1_what_is_left_out_has_its_default(tmp_path):
    """A file with one field gives an object with the others at their defaults; ints are accepted as floats."""
    file = tmp_path / "a.yaml"
    file.write_text("camera:\n  rate: 25\n")
    back = Settings.from_yaml(file)
    assert back == Settings(camera=Camera(rate=25))
    assert type(back.camera.rate) is float


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"camera": {"rate": "fast"}}, "$.camera.rate: expected float, got str 'fast'"),
        ({"camera": {"rate": "3"}}, "$.camera.rate: expected float, got str '3'"),
        ({"camera": {"rate": True}}, "$.camera.rate: expected float, got bool True"),
        ({"camera": {"rat": 1}}, "$.camera: unknown key 'rat'; did you mean rate?"),
        ({"camera": {"xyz": 1}}, "$.camera: unknown key 'xyz'; known are rate, name, mode"),
        ({"camera": {"rate": -1}}, "$.camera: 'rate' must be > 0: -1.0"),
        ({"camera": {"mode": "medium"}}, "$.camera.mode: expected one of 'fast', 'slow', (1, 2), got str 'medium'"),
        ({"camera": None}, "$.camera: expected a mapping (of Camera), got nothing"),
        ({"camera": [1]}, "$.camera: expected a mapping (of Camera), got list [1]"),
        ({"cameras": "abc"}, "$.cameras: expected a list, got str 'abc'"),
        ({"cameras": [{}, {"name": 3}]}, "$.cameras[1].name: expected str, got int 3"),
        ({"by_name": {"x": {"name": 3}}}, "$.by_name['x'].name: expected str, got int 3"),
        ({"limit": True}, "$.limit: expected int or nothing, got bool True"),
        ({"limit": 1.0}, "$.limit: expected int or nothing, got float 1.0"),
        ({"pair": [1]}, "$.pair: expected 2 items, got 1"),
        ({"pair": [1, 2]}, "$.pair[1]: expected str, got int 2"),
        ({"numbers": [1, "x"]}, "$.numbers[1]: expected int, got str 'x'"),
        ({"numbered": {"x": "y"}}, "$.numbered['x']: expected int, got str 'x'"),
        ({"link": {"host": "x"}}, "$.link: could be Link or Loop; add the key 'type' with one of these names"),
        ({"link": {"type": "Link", "prot": 1}}, "$.link: unknown key 'prot'; did you mean port?"),
        ({"choice": True}, "$.choice: expected one of 'a', 1, None, got bool True"),
        ({"function": "x"}, "$.function: expected Callable or nothing, got str 'x'"),
        ({"day": "hello"}, "$.day: expected a date such as '2026-01-31', got str 'hello'"),
        ({"path": "a\0b"}, "$.path: expected a path, got str 'a\\x00b'"),
        ({"key": "!"}, "$.key: expected base64 text, got str '!'"),
        ({"span": "1s"}, "$.span: expected a number of seconds, got str '1s'"),
        ({"matrix": 5}, "$.matrix: expected a list of numbers, got int 5"),
        ({"matrix": [["x"]]}, "$.matrix: expected a list of numbers"),
        ({"single": "1"}, "$.single: expected float32, got str '1'"),
        ({"single": "x"}, "$.single: expected float32, got str 'x'"),
        ({1: 2}, "$: unknown key 1; known are camera"),
        ([], "$: expected a mapping (of Settings), got list []"),
        (None, "$: expected a mapping (of Settings), got nothing"),
    ],
)
def test_c1_wrong_settings_say_where(plain, message):
    """Each wrong value or key is a ConfigError that begins with the path and states the expected type."""
    with pytest.raises(ConfigError) as caught:
        from_plain(Settings, plain)
    assert str(caught.value).startswith(message)


def test_c1_all_problems_are_told_at_once():
    """Two wrong fields give two lines."""
    with pytest.raises(ConfigError) as caught:
        from_plain(Settings, {"camera": {"rate": "x", "name": 1}, "limit": "y"}, path="$.settings")
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "$.settings.camera.rate",
        "$.settings.camera.name",
        "$.settings.limit",
    ]


def test_c1_a_missing_field_is_named():
    """A missing field without a default is reported by its path."""

    @attrs.define
    class Needs:
        rate: int

    with pytest.raises(ConfigError, match=r"^\$\.rate: is missing"):
        from_plain(Needs, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- 1", "must be a mapping of names to values, not list"),
        ("5", "must be a mapping"),
        ("a: 1\nb: 2\na: 3", ":3: the key 'a' occurs twice (first in line 1)"),
        ("a: 1\nb:\n  c: 1\n  c: 2", ":4: the key 'c' occurs twice"),
        ("1: a\n'1': b", ":2: the key '1' occurs twice"),
        ("a: 1\nb: !!python/object/apply:os.system ['exit 1']", ":2: tag "),
        ("a: !!python/name:os.system", ":1: tag "),
        ("a: [1", ":1: "),
        ("a: 1\n---\nb: 1", ":2: "),
        ("? [1]\n: 2", ":1: a key is not text"),
        ("b: 1\na: !!int 22:22", ":2: '22:22' is not a whole number"),
        ("a: \0", "is not YAML"),
        ("a: &a [*a]", "nested too deep or too large"),
        ("[" * 5000, "nested too deep"),
    ],
)
def test_c1_wrong_yaml_says_where(tmp_path, text, message):
    """A YAML file that is not a mapping of plain data is a ConfigError with the file and, if known, the line."""
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(file)
    assert str(caught.value).startswith(f"{file}")
    assert message in str(caught.value)


def test_c1_yaml_bomb_is_refused(tmp_path):
    """A small file whose aliases expand to a billion items is rejected instead of expanded."""
    file = tmp_path / "a.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    file.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="too large"):
        read_config(file)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "a = ", "is not TOML"),
        ("a.toml", "a = 1\na = 2", "is not TOML"),
        ("a.json", '{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        ("a.json", '{\n"a": }', ":2: is not JSON"),
        ("a.json", "[" * 100_000, "nested too deep"),
        ("a.json", "[]", "must be a mapping"),
        ("a.json", "", "is empty"),
        ("a.txt", "a: 1", "has none of the suffixes"),
    ],
)
def test_c1_other_wrong_files_say_what(tmp_path, name, text, message):
    """TOML and JSON are as strict as YAML, and other suffixes are rejected."""
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(file)
    assert message in str(caught.value)


def test_c1_text_that_is_no_text_or_no_file(tmp_path):
    """Bytes that are not UTF-8 are a ConfigError; a missing file is the usual error."""
    (tmp_path / "a.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_config(tmp_path / "a.yaml")
    with pytest.raises(FileNotFoundError):
        read_config(tmp_path / "b.yaml")


def test_c1_errors_of_from_yaml_name_the_file(tmp_path):
    """A wrong value in a file is reported with the file and the path in it."""
    file = tmp_path / "a.yaml"
    file.write_text("camera:\n  rate: fast\n")
    with pytest.raises(ConfigError) as caught:
        Settings.from_yaml(file)
    assert str(caught.value) == f"{file}: $.camera.rate: expected float, got str 'fast'"


def test_c1_yaml_is_yaml_1_2(tmp_path, caplog):
    """Plain words follow the core schema of YAML 1.2; a number that was octal is remarked."""
    file = tmp_path / "a.yaml"
    file.write_text(
        "rate: 1e3\non: yes\nat: 22:22\nday: 2026-01-31\nbig: 1_000\nten: 010\neight: 0o10\nhex: 0xFF\nbin: 0b1\n"
        "none: ~\nlow: -.inf\nhalf: .5\nbase: &base {x: 1, y: 2}\nmore:\n  <<: *base\n  y: 3\n"
    )
    assert read_config(file) == {
        "rate": 1000.0,
        "on": "yes",
        "at": "22:22",
        "day": "2026-01-31",
        "big": "1_000",
        "ten": 10,
        "eight": 8,
        "hex": 255,
        "bin": "0b1",
        "none": None,
        "low": -float("inf"),
        "half": 0.5,
        "base": {"x": 1, "y": 2},
        "more": {"x": 1, "y": 3},
    }
    assert caplog.messages == [
        f"{file}:6: 010 is the decimal number 10 in YAML 1.2 (older YAML: octal); write 0o… for octal"
    ]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(), PLAIN, min_size=1))
def test_c1_any_plain_data_comes_back(tmp_path_factory, plain):
    """Any text, numbers, lists and dicts are read back from YAML and JSON with their types."""
    for suffix in (".yaml", ".json"):
        file = tmp_path_factory.getbasetemp() / f"plain{suffix}"
        write_config(file, plain)
        assert repr(read_config(file)) == repr(plain)


def test_c1_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    """If writing fails at the last step, the old file is complete, and nothing is left beside it."""
    file = tmp_path / "a.yaml"
    write_config(file, {"a": 1})
    file.chmod(0o640)

    def fail(*_):
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space"):
            write_config(file, {"a": 2})
    assert read_config(file) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]
    write_config(file, {"a": 2})
    assert read_config(file) == {"a": 2}
    assert file.stat().st_mode & 0o777 == 0o640
    with pytest.raises(FileNotFoundError, match=r"'[^']*absent/a.yaml'$"):
        write_config(tmp_path / "absent" / "a.yaml", {"a": 1})


@pytest.mark.parametrize("value", [object(), lambda: 1, int, np.array([None]), np.zeros(20_000), np.array([1j])])
def test_c1_what_cannot_be_plain_is_named(tmp_path, value):
    """A value that no file can hold is rejected with its path, before a file is created."""
    with pytest.raises(ConfigError, match=r"^\$\.anything\.x\[1\]: "):
        Settings(anything={"x": [0, value]}).to_yaml(tmp_path / "a.yaml")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="TOML cannot hold"):
        write_config(tmp_path / "a.toml", {"a": [None]})


def test_c1_an_object_that_holds_itself_is_refused():
    """A reference cycle is rejected instead of followed."""
    loop = []
    loop.append(loop)
    with pytest.raises(ConfigError, match="holds itself"):
        to_plain(loop)


def test_c1_importing_is_light():
    """Importing the module imports neither cattrs nor a library for files, nor numpy."""
    code = (
        "import sys, penstock.config\n"
        "assert not {'cattrs', 'yaml', 'tomli_w', 'tomllib', 'numpy'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_c1_the_page_about_configuration_runs(tmp_path):
    """The Python of docs/how-to/configuration.md runs from top to bottom, and writes the YAML that the page shows."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "how-to" / "configuration.md").read_text()
    script = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, check=True, timeout=60)
    shown = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert [(tmp_path / "experiment.yaml").read_text()] == shown
