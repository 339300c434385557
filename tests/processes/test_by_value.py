"""What a person writes in one script or notebook works in processes of its own."""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import subprocess
import sys
import threading

import attrs
import pytest

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.dead_letters import read_dead_letters
from penstock.errors import RunError, WiringError

SCRIPT = """
import dataclasses
import enum
import functools
import os
import pathlib
import sys

import attrs
import numpy as np

import beside
import penstock as ps

print("main runs")
GAIN = 2
HERE = os.getpid()


class Color(enum.Enum):
    RED = 1


class OwnError(ValueError):
    pass


def function(record):
    return record.replace(data=record.data * GAIN)


def three(coords, data, metadata):
    assert os.getpid() != HERE
    return coords, data + 1, {**metadata, "color": Color.RED.name}


@dataclasses.dataclass
class Adds:
    number: int = 0
    seen: list = dataclasses.field(default_factory=list)

    def __call__(self, record):
        self.seen.append(record.data)
        return record.replace(data=record.data + self.number)


@attrs.define
class Scales:
    factor: int = 1
    _calls: int = attrs.field(default=0, init=False)

    def __call__(self, record):
        self._calls += 1
        return record.replace(data=record.data * self.factor)


class Plain(Scales.__base__):
    def __init__(self, number):
        self.number = number

    def __call__(self, record):
        return record.replace(data=record.data - self.number)

    def method(self, record):
        return self(record)


class Doubles:
    def decode(self, record):
        return [record.replace(data=record.data * 2, parent=record)]

    def flush(self):
        return []

    def reset(self):
        pass


class Lines:
    def __init__(self, path):
        self.path = path

    def open(self):
        self.file = open(self.path, "w")

    def write(self, records):
        self.file.writelines(f"{int(record.data)}\\n" for record in records)

    def sync(self):
        self.file.flush()

    def close(self):
        self.file.close()


def fails(record):
    if record.data == 3:
        raise OwnError("three is too much")
    return record


def closure(number):
    return lambda record: record.replace(data=record.data + number)


def yields(coords, data, metadata):
    yield coords, data, metadata


def main():
    near = dict(place="process")
    steps = [
        function, three, Adds(5), Scales(3), Plain(1), Plain(1).method, closure(1), yields, Adds,
        functools.partial(lambda record, by: record.replace(data=record.data + by), by=4), beside.negative,
        lambda record: record.replace(data=np.abs(record.data)),
    ]
    flow = ps.source([1, 2])
    for number, step in enumerate(steps):
        flow = flow >> ps.processor(step, workers=1 + (number == 0), name=f"step-{number}", **near)
    report = ps.Pipeline(flow >> ps.store("null")).run()
    assert (report.ok, report.stored) == (True, 2), report
    kept = []
    flow = ps.source([0, 1, 2], **near) >> ps.decoder(Doubles, **near) >> ps.processor(three, **near)
    flow = flow >> (lambda record: kept.append(int(record.data)) or record) >> ps.store(Lines("lines"), **near)
    report = ps.Pipeline(flow).run()
    assert report.ok, report
    assert kept == [1, 3, 5], kept
    assert open("lines").read().split() == ["1", "3", "5"]
    report = ps.Pipeline(ps.source([2, 3, 4]) >> ps.processor(fails, name="fails", **near) >> ps.store("null")).run()
    assert (report.stored, report.dead_lettered) == (2, 1), report
    from penstock.dead_letters import read_dead_letters
    [letter] = [letter for letter in read_dead_letters(pathlib.Path(report.dead_letters))]
    assert letter.metadata["message"] == "OwnError: three is too much", letter.metadata
    try:
        ps.Pipeline(ps.source("files", path="x") >> ps.processor(function, **near) >> ps.store("null")).to_toml()
    except ps.errors.WiringError as error:
        assert "__main__" in str(error), error
        print("all is well")


"""
BESIDE = "def negative(record):\n    return record.replace(data=-record.data)\n"


@pytest.fixture
def program(tmp_path):
    """A function that runs a program in a directory with `beside.py`, and returns the lines that it printed."""
    (tmp_path / "beside.py").write_text(BESIDE)

    def run(*arguments, typed=None):
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, timeout=110, cwd=tmp_path, input=typed
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    return run


@pytest.mark.parametrize("guard", ["main()\n", 'if __name__ == "__main__":\n    main()\n'])
def test_a_script_of_its_own(program, tmp_path, guard):
    """All that one script defines works in processes, with and without a main guard, run twice; it is not run again."""
    (tmp_path / "script.py").write_text(SCRIPT + guard)
    for _ in range(2):
        assert program("script.py") == ["main runs", "all is well"]


def test_a_program_in_an_argument(program):
    """What `python -c` defines works in processes, twice."""
    for _ in range(2):
        assert program("-c", SCRIPT + "main()\n") == ["main runs", "all is well"]


SESSION = """
import penstock as ps
gain = 3
def scaled(record):
    return record.replace(data=record.data * gain)

class Adds:
    def __call__(self, record):
        return record.replace(data=record.data + 1)

kept = []
flow = ps.source([1, 2]) >> ps.processor(scaled, place="process") >> ps.processor(Adds(), place="process")
ps.Pipeline(flow >> (lambda record: kept.append(record.data) or record) >> ps.store("null")).run().ok
print("kept", kept)
gain = 10
kept.clear()
ps.Pipeline(flow >> (lambda record: kept.append(record.data) or record) >> ps.store("null")).run().ok
print("kept", kept)
"""


def test_a_typed_session(program):
    """What is typed into `python -i` works in processes, with the values of the moment at which a run starts."""
    for _ in range(2):
        lines = program("-i", "-q", typed=SESSION)
        assert [line for line in lines if line.startswith("kept")] == ["kept [4, 7]", "kept [11, 21]"]


def test_a_notebook(program):
    """Cells of a notebook may define and redefine what works in processes."""
    pytest.importorskip("IPython")
    cells = [
        "import penstock as ps\nkept = []\ndef step(record):\n    return record.replace(data=record.data + 1)",
        "def run():\n    kept.clear()\n    keep = lambda record: kept.append(record.data) or record\n"
        "    flow = ps.source([1, 2]) >> ps.processor(step, place='process') >> keep >> ps.store('null')\n"
        "    return ps.Pipeline(flow).run().ok",
        "assert run() and kept == [2, 3], kept",
        "def step(record):\n    return record.replace(data=record.data + 10)",
        "assert run() and kept == [11, 12], kept",
        "import dataclasses\n@dataclasses.dataclass\nclass Step:\n    by: int\n    def __call__(self, record):\n"
        "        return record.replace(data=record.data - self.by)",
        "step = Step(1)\nassert run() and kept == [0, 1], kept",
        "assert run() and kept == [0, 1], kept",
    ]
    shell = (
        "import sys\nfrom IPython.core.interactiveshell import InteractiveShell\n"
        f"shell = InteractiveShell.instance()\nfor cell in {cells!r}:\n"
        "    shell.run_cell(cell, store_history=True).raise_error()\nprint('done')\n"
    )
    for _ in range(2):
        assert program("-c", shell)[-1] == "done"


def test_code_of_a_module_that_the_child_would_not_find_goes_by_value(lead):
    """Functions of a module that is not on the path (this one) are sent whole, with what they refer to."""
    number = 7

    @attrs.define
    class Adds:
        by: int

        def __call__(self, record):
            return record.replace(data=record.data + self.by)

    lead(ps.processor(lambda record: record.replace(data=record.data + number), place="process"), items=range(3))
    assert lead.data == [7, 8, 9]
    lead.got.clear()
    lead(ps.processor(Adds(2), place="process", workers=2), items=range(3))
    assert lead.data == [2, 3, 4]


def test_the_users_object_stays_as_it_is_while_its_copy_works(lead):
    """An object that works in a process is a copy: the user's own keeps the state that it had."""

    class Counts:
        def __init__(self):
            self.taken = 5

        def __call__(self, record):
            self.taken += 1
            return record.replace(data=self.taken)

    mine = Counts()
    for _ in range(2):
        lead.got.clear()
        lead(ps.processor(mine, place="process"), items=range(3))
        assert lead.data == [6, 7, 8]
    assert mine.taken == 5


def test_what_was_defined_is_sent_again_after_a_death(lead, tmp_path):
    """A process that is killed is started again from what was sent; what it had is done again."""
    died = tmp_path / "died"

    @attrs.define
    class Pairs:
        _waiting: list = attrs.field(factory=list, init=False)

        def __call__(self, record):
            if record.data == 5 and not died.exists():
                died.touch()
                os.kill(os.getpid(), 9)
            self._waiting.append(record)
            if len(self._waiting) < 2:
                return None
            first, second = self._waiting
            self._waiting.clear()
            return second.replace(data=first.data + second.data)

        def held(self):
            return list(self._waiting)

        def flush(self):
            return ()

    report = lead(ps.processor(Pairs(), name="pairs", place="process"), items=range(8))
    assert lead.data == [1, 5, 9, 13]
    assert report.account.node("pairs").restarts == 1


def opened(tmp_path):
    (tmp_path / "notes").write_text("text")
    return (tmp_path / "notes").open()


@pytest.mark.parametrize("what", ["lock", "socket", "file", "generator"])
def test_what_cannot_be_sent_is_named_before_anything_opens(tmp_path, what):
    """A lock, a socket, a file or a generator is a WiringError with its node, its attribute and the remedy."""
    made = {
        "lock": threading.Lock,
        "socket": socket.socket,
        "file": lambda: opened(tmp_path),
        "generator": lambda: (n for n in [1]),
    }
    held = made[what]()

    class Holds:
        def __init__(self):
            self.inner = {"held": held}

        def __call__(self, record):
            return record

    @attrs.define
    class Setting:
        held: object

        def __call__(self, record):
            return record

    def refers(record):
        return held and record

    for given, named in [
        (Holds(), "attribute 'inner', 'held'"),
        (Setting(held), "attribute 'held'"),
        (refers, "variable 'held'"),
        (functools.partial(lambda record, held: record, held=held), "attribute 'held'"),
    ]:
        with pytest.raises(WiringError, match=rf"node 'p' .*{named}.*cannot be sent.*open\(\)"):
            ps.Pipeline(ps.source([1]) >> ps.processor(given, name="p", place="process") >> ps.store("null")).check()
    if what == "generator":
        with pytest.raises(WiringError, match=r"node 's' .*cannot be sent.*generator"):
            ps.Pipeline(ps.source(held, name="s", place="process") >> ps.store("null")).check()
    if hasattr(held, "close"):
        held.close()


def test_what_would_stay_empty_is_refused():
    """A store in memory, or a source that this process fills, is refused for a process: its copy would be elsewhere."""
    with pytest.raises(WiringError, match=r"node 'm' .*place='process'.*in the memory of"):
        ps.Pipeline(ps.source([1]) >> ps.store(MemoryStore(), name="m", place="process")).check()
    from penstock.builtin.push import PushSource

    with pytest.raises(WiringError, match=r"place='process'.*in the memory of"):
        ps.Pipeline(ps.source(PushSource(), place="process") >> ps.store("null")).check()


def test_what_cannot_be_made_there_is_an_error_of_its_node():
    """A definition that the process cannot load ends the start with the node and the error, and no process left."""

    class Explodes:
        def __init__(self):
            self.state = 1

        def __reduce__(self):
            return int, ("not a number",)

        def __call__(self, record):
            return record

    with pytest.raises(RunError, match=r"node 'p'.*invalid literal"):
        ps.Pipeline(ps.source([1]) >> ps.processor(Explodes(), name="p", place="process") >> ps.store("null")).run()


def test_results_and_errors_are_never_pickled(lead, tmp_path):
    """An object of a user's class as a result, or an error of one, is refused or told by name; nothing of it is run."""

    class Mine:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    class MineError(Exception):
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    def gives(record):
        if record.data:
            raise MineError("mine")
        return record.replace(data=Mine())

    lead(ps.processor(gives, place="process"), items=[0, 1])
    messages = sorted(letter.metadata["message"] for letter in read_dead_letters(tmp_path))
    assert messages[0] == "MineError: mine"
    assert "cannot be sent" in messages[1]
    assert not (tmp_path / "made").exists()


def test_cloudpickle_is_loaded_only_where_it_is_used():
    """A pipeline of threads imports no cloudpickle."""
    code = (
        "import sys, penstock as ps; ps.Pipeline(ps.source([1]) >> ps.store('null')).run(); "
        "print('cloudpickle' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_classes_with_an_init_of_their_own_and_cached_functions_work_there(lead):
    """What settings cannot make is sent as it is, state and all; a cached function goes by value, too."""

    @attrs.define
    class Own:
        by: int

        def __init__(self):
            self.__attrs_init__(by=5)

        def __call__(self, record):
            return record.replace(data=record.data + self.by)

    @dataclasses.dataclass
    class Init:
        start: dataclasses.InitVar[int]

        def __post_init__(self, start):
            self.by = start

        __call__ = Own.__call__

    @functools.lru_cache(maxsize=7)
    def cached(record):
        return record.replace(data=record.data + 5)

    for given in (Own(), Init(5), cached):
        lead.got.clear()
        lead(ps.processor(given, place="process"), items=range(3))
        assert lead.data == [5, 6, 7]
