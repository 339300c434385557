"""The reference of `penstock.testing` and the contracts are the same: what an author says, and what is tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock import testing
from penstock.testing import strategies

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "testing.md").read_text(encoding="utf-8")
CONTRACTS = [testing.SourceContract, testing.DecoderContract, testing.ProcessorContract, testing.StoreContract]
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
NOT_FOR_AUTHORS = {"make", "opened", "record", "records", "takes_arrays", "read", "expected"}
NOT_FOR_AUTHORS |= {"assert_holds", "assert_count", "assert_keys", "assert_failed"}
NOT_FOR_AUTHORS |= {"decode_all", "process_all"}
"""What tests of an author's own may call, and nobody has to write."""


def sayable(contract):
    """Return the names of what an author may say in a class that inherits a contract."""
    public = {name for name in dir(contract) if not name.startswith(("_", "test_"))}
    return public - NOT_FOR_AUTHORS - set(dir(object))


def first_paragraph(text):
    """Return the first paragraph of a docstring in one line."""
    return " ".join(text.strip().split("\n\n")[0].split())


@pytest.mark.parametrize("contract", CONTRACTS)
def test_what_an_author_can_say_is_on_the_page(contract):
    """The table of each contract has what can be said in it, each with a meaning, and nothing else."""
    rows = re.findall(r"^\| `(\w+)(?:\(.*?\))?` \| (.*?) \| (.*?) \|$", SECTIONS[contract.__name__], re.MULTILINE)
    shared = re.findall(r"^\| `(\w+)(?:\(.*?\))?` \| (.*?) \| (.*?) \|$", PAGE.split("\n## ")[0], re.MULTILINE)
    assert sorted(name for name, _, _ in [*rows, *shared]) == sorted(sayable(contract))
    for name, default, meaning in [*rows, *shared]:
        assert meaning.strip()
        if not callable(getattr(contract, name)) and default.startswith("`"):
            assert eval(default.strip("`"), {}) == getattr(contract, name), f"the default of {name}"


@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_promise_is_on_the_page(contract):
    """Below each contract there is a line for each of its tests, with what that test says of itself."""
    lines = re.findall(r"^- `(\w+)`: (.*?)(?=\n- |\n\n|\n?\Z)", SECTIONS[contract.__name__], re.DOTALL | re.MULTILINE)
    said = {name: " ".join(text.split()) for name, text in lines}
    tests = [name for name in dir(contract) if name.startswith("test_")]
    assert said == {name: first_paragraph(getattr(contract, name).__doc__) for name in tests}


def test_every_strategy_is_on_the_page():
    """Each public function of `penstock.testing.strategies` is named."""
    public = [
        name
        for name, value in vars(strategies).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == strategies.__name__
    ]
    assert [name for name in public if f"`{name}" not in SECTIONS["Strategies"]] == []
