"""The examples in the documents of the systems that penstock takes over from run, with the import changed."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent / "examples"


@pytest.fixture
def run_example(tmp_path, monkeypatch):
    """Run an example here, and twice in a row as a program of its own, in one directory."""
    memory = Path("/dev/shm") / f"penstock-examples-{os.getpid()}"
    monkeypatch.setenv("PENSTOCK_SHM_DIR", str(memory))
    monkeypatch.chdir(tmp_path)

    def run(name):
        path = EXAMPLES / f"{name}.py"
        for _ in range(2):
            done = subprocess.run([sys.executable, "-W", "error", path], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            assert done.stderr == ""
        runpy.run_path(str(path), run_name="__main__")

    yield run
    shutil.rmtree(memory, ignore_errors=True)


def test_every_example_is_run():
    """Each example has a test of its name, so that none is forgotten."""
    assert {f"test_{path.stem}" for path in EXAMPLES.glob("*.py")} <= set(globals())


def test_c1_yaml_config(run_example):
    """YamlConfig: a dataclass is written and read back."""
    run_example("c1_yaml_config")


def test_e1_coordinates(run_example):
    """DataCoordinates: attribute, item, a new axis, dict."""
    run_example("e1_coordinates")


def test_e2_iterator(run_example):
    """DataCoordinatesIterator: from a list and from a generator without end."""
    run_example("e2_iterator")


def test_c2_creation(run_example):
    """SharedMemoryArray: made, looked at, destroyed."""
    run_example("c2_creation")


def test_c2_connection(run_example):
    """SharedMemoryArray: connected twice, disconnected once; what is left behind is in nobody's way."""
    run_example("c2_connection")


def test_c2_reading(run_example):
    """SharedMemoryArray: an element and a slice are read."""
    run_example("c2_reading")


def test_c2_writing(run_example):
    """SharedMemoryArray: an element and a slice are written."""
    run_example("c2_writing")


def test_c2_processes(run_example):
    """SharedMemoryArray: children work on it together, whichever way they were started."""
    run_example("c2_processes")


def test_b2_plasma(run_example):
    """PlasmaStoreInterface: every name of its documentation; what a run leaves does not stop the next."""
    run_example("b2_plasma")


def test_e3_storages(run_example):
    """The storage backends of ExEngine's own wheel work in a handler and in a pipeline."""
    pytest.importorskip("ndstorage", reason="ExEngine's backends need it; noxfile.py installs it")
    run_example("e3_storages")


def test_e4_handler(run_example):
    """DataHandler: put by an event, get data and metadata."""
    run_example("e4_handler")


def test_e5_processor(run_example):
    """A function writes into data and metadata; process_function, process_fn and DataProcessor are the same."""
    run_example("e5_processor")


def test_e5_several(run_example):
    """Two outputs of the same coordinates, and a function that keeps images on itself."""
    run_example("e5_several")
