"""What these tests share: a test of a contract is run for a broken component, with all of its parameters."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "first failure is enough", phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate], derandomize=True
)


HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)  # for `folder`, the sound store of which the tests make broken ones


@pytest.fixture(autouse=True)
def folder_in_children(monkeypatch):
    """The processes that a contract starts import `folder`, too."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")])))


@pytest.fixture
def failures(tmp_path):
    """Give a function that runs one test of a contract and returns what it raised, for each of its parameters."""

    def failures(contract, test):
        function = getattr(contract, test)
        names = [name for name in inspect.signature(function).parameters if name != "tmp_path"]
        marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
        found = []
        for number, value in enumerate(marks[0].args[1] if marks else [None]):
            directory = tmp_path / str(number)
            directory.mkdir()
            given = {"tmp_path": directory} if "tmp_path" in inspect.signature(function).parameters else {}
            try:
                function(**given, **dict.fromkeys(names, value))
            except (Exception, pytest.fail.Exception) as error:  # what it raises is what this is about
                found.append(error)
        return found

    hypothesis.settings.load_profile("first failure is enough")
    yield failures
    hypothesis.settings.load_profile("default")


@pytest.fixture
def untried():
    """Give a function that names the tests of a contract for which no broken component is among those given."""

    def untried(contract, broken):
        tried = {parameters.values[0] for parameters in broken}
        assert tried <= set(dir(contract)), tried - set(dir(contract))
        return sorted({name for name in dir(contract) if name.startswith("test_")} - tried)

    return untried
