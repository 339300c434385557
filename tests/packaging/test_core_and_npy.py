"""The core and one plugin, alone in an environment: the smallest penstock that keeps something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LIBRARIES = {"av", "zenoh", "lmdb", "iceoryx2", "confluent_kafka", "numpy"}
HEAVY = LIBRARIES | {"jinja2", "rich", "click", "cattrs", "yaml", "stamina", "tenacity", "asyncio", "multiprocessing"}

PIPELINE = """
import numpy as np
import penstock as ps

frames = (np.full((4, 6), number, dtype="uint16") for number in range(12))
report = ps.Pipeline(ps.source(frames) >> ps.store("npy", path="frames/{{ '%03d' % seq }}.npy")).run()
assert report.ok and report.balanced, str(report)
for number in range(12):
    stored = np.load(f"frames/{number:03d}.npy")
    assert stored.dtype == np.uint16 and stored.shape == (4, 6) and (stored == number).all()
print(report)
"""


LIST_PLUGINS = """
from penstock.cli import main
try:
    main(["plugins"])
except SystemExit as end:
    assert not end.code
"""


def modules_after(environment: Environment, statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has imported after this statement."""
    script = f"{statement}\nimport sys\nprint('modules:', *{{name.partition('.')[0] for name in sys.modules}})"
    return set(environment.run("python", "-c", script).stdout.rpartition("modules:")[2].split())


def test_an_iterable_goes_to_npy_files(core_and_npy: Environment, tmp_path: Path) -> None:
    """With the core and penstock-npy alone, the arrays of a Python iterable end up in .npy files, all accounted for."""
    assert core_and_npy.run("python", "-W", "error", "-c", PIPELINE, cwd=tmp_path).stdout.strip()
    assert len(list(tmp_path.glob("frames/*.npy"))) == 12


def test_plugins_lists_just_these_two(core_and_npy: Environment) -> None:
    """`penstock plugins` lists the core and penstock-npy, both sound, and nothing else."""
    listed = json.loads(core_and_npy.run("penstock", "plugins", "--json").stdout)["plugins"]
    assert {(plugin["name"], plugin["status"]) for plugin in listed} == {("penstock", "ok"), ("penstock-npy", "ok")}


def test_plugins_lists_without_importing_what_they_need(core_and_npy: Environment) -> None:
    """`penstock plugins` imports neither numpy nor any library that a plugin is for."""
    imported = modules_after(core_and_npy, LIST_PLUGINS)
    assert "penstock_npy" in imported
    assert not imported & LIBRARIES


def test_importing_penstock_is_light(core_and_npy: Environment) -> None:
    """`import penstock` imports no library that only some pipelines need."""
    assert not modules_after(core_and_npy, "import penstock") & HEAVY


def test_a_missing_application_is_named_with_its_remedy(core_and_npy: Environment) -> None:
    """`penstock demo` without the distribution that brings it says which that is and how to install it."""
    done = core_and_npy.run("penstock", "demo", check=False)
    assert done.returncode == 2
    assert "pip install penstock-demo" in done.stderr
    assert "Traceback" not in done.stderr
