"""Listing is light: nothing that plugins need is imported to know what they offer."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from penstock.plugins.explain import INSTALLABLE

ROOT = Path(__file__).parents[2]
HEAVY = ("av", "confluent_kafka", "jinja2", "lmdb", "msgpack", "numpy", "rich", "yaml", "zenoh", "iceoryx2", "asyncio")
LIST = """
import json, sys
from penstock.plugins import Plugins
sys.path[:0] = sys.argv[2:]
plugins = Plugins.discover()
offers = lambda report: [[role, c.name] for role, components in report.components.items() for c in components]
hidden = "comes before it on the path"  # the same distribution, installed where the tests run
reports = [report for report in plugins if hidden not in report.reason]
found = {report.name: [report.status, report.reason, offers(report)] for report in reports}
print(json.dumps([found, [name for name in sys.argv[1].split(",") if name in sys.modules]]))
"""


def list_in_a_fresh_interpreter(*path: str) -> tuple[dict[str, list], list[str]]:
    """Return what is found with these directories first on the path, and which heavy modules that imported."""
    command = [sys.executable, "-W", "error", "-c", LIST, ",".join(HEAVY), *path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found, heavy = json.loads(done.stdout)
    return found, heavy


def test_listing_what_is_installed_is_light():
    """A fresh interpreter that lists every installed plugin has imported none of their libraries."""
    assert list_in_a_fresh_interpreter()[1] == []


@pytest.fixture
def workspace(site):
    """Install what the workspace's plugins say of themselves; give their names, and the directories to look in."""
    projects = [tomllib.loads(p.read_text(encoding="utf-8")) for p in sorted(ROOT.glob("plugins/*/pyproject.toml"))]
    for project in (each["project"] for each in projects):
        for group, entries in project.get("entry-points", {}).items():
            lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
            site.metadata(project["name"], project["version"], "\n".join(lines) + "\n")
    sources = [str(path) for path in sorted(ROOT.glob("plugins/*/src"))]
    offering = [project["project"] for project in projects if "penstock.v1" in project["project"]["entry-points"]]
    return {project["name"] for project in offering}, [str(site.root), *sources]


def test_listing_the_plugins_of_the_workspace_is_light(workspace):
    """So has one that lists the plugins of this workspace, all of which work and offer something."""
    names, path = workspace
    found, heavy = list_in_a_fresh_interpreter(*path)
    assert {name: found[name][:2] for name in names} == {name: ["ok", ""] for name in names}
    assert [name for name in names if not found[name][2]] == []
    assert heavy == []


def test_it_is_known_what_to_install_for_each_component(workspace):
    """For every component of this workspace's plugins, the error of who has not installed it says what to install."""
    names, path = workspace
    found, _ = list_in_a_fresh_interpreter(*path)
    offers = [(plugin, role, name) for plugin in names for role, name in found[plugin][2]]
    told = [INSTALLABLE.get(f"{role} {name}", INSTALLABLE.get(name)) for _, role, name in offers]
    assert [offer for offer, plugin in zip(offers, told, strict=True) if plugin != offer[0]] == []


def test_importing_the_module_finds_nothing_yet():
    """Importing penstock.plugins reads no metadata and imports no hooks: `discover` does."""
    check = (
        "import sys; from penstock.plugins import Plugins; "
        "sys.exit(any(m in sys.modules for m in ('importlib.metadata', 'packaging', 'penstock.builtin.hooks')))"
    )
    subprocess.run([sys.executable, "-c", check], timeout=60, check=True)


def test_the_command_that_lists_is_light():
    """`penstock plugins` imports none of the heavy libraries either, not even to print its table."""
    check = (
        "import sys\nfrom penstock.cli import main\ntry:\n    main(['plugins'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
