"""What is offered is tested, and what is public is on the reference's pages: neither can be forgotten."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

import penstock
from penstock import Plugins, testing

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
TESTS = {
    tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"]: path.parent / "tests"
    for path in ROOT.glob("plugins/*/pyproject.toml")
} | {"penstock": ROOT / "tests" / "core"}
"""Where the tests of each distribution of the workspace are."""

OFFERED = [
    pytest.param(report.name, role, component, id=f"{report.name} {role} {component.name}")
    for report in Plugins.discover()
    if report.name in TESTS
    for role, components in report.components.items()
    for component in components
]


@pytest.mark.parametrize(("distribution", "role", "component"), OFFERED)
def test_every_component_is_held_to_its_contract(distribution, role, component):
    """For each component that is offered there is a test class that inherits the contract of its role and makes one."""
    contract, name = f"{role.capitalize()}Contract", component.path.rpartition(":")[2]
    makers = [
        f"{path.name}: {cls}"
        for path in sorted(TESTS[distribution].glob("**/*.py"))
        for cls, made in inheritors(ast.parse(path.read_text(encoding="utf-8")), contract).items()
        if name in made
    ]
    assert makers, (
        f"write `class Test{name}({contract})` with a make_{role} that returns {name}(…) "
        f"below {TESTS[distribution].relative_to(ROOT)}"
    )


def test_every_distribution_of_the_workspace_offers_something():
    """Each distribution of the workspace that is installed works, so that the test above sees its components."""
    reports = {report.name: report for report in Plugins.discover() if report.name in TESTS}
    assert {name: report.reason for name, report in reports.items() if report.status != "ok"} == {}
    assert {parameter.values[0] for parameter in OFFERED} == set(reports)
    assert "penstock" in reports


@pytest.mark.parametrize("module", ["penstock", "penstock.testing"])
def test_public_names_are_those_of_the_reference(module):
    """The names in `__all__`, sorted, are those that the reference lists for the module, each with a line about it."""
    section = re.search(rf"^## {re.escape(module)}\n(.*?)(?=^## |\Z)", API, re.DOTALL | re.MULTILINE)
    assert section is not None
    lines = re.findall(r"^\| `(\w+)` \| (.*) \|$", section[1], re.MULTILINE)
    public = importlib.import_module(module).__all__
    assert [name for name, _ in lines] == sorted(public)
    assert [name for name, said in lines if not said.strip()] == []


def test_public_names_are_there():
    """Each public name leads to something, and has a docstring or is a plain value."""
    for module in (penstock, testing):
        for name in module.__all__:
            value = getattr(module, name)
            assert value.__doc__, f"{module.__name__}.{name} has no docstring"


@pytest.mark.parametrize("distribution", sorted(TESTS.keys() - {"penstock-demo"}))
def test_dir_lists_public_names(distribution):
    """`dir()` of a package, from which editors complete, has its public names before any of them was used."""
    package = importlib.import_module(distribution.replace("-", "_"))
    assert set(package.__all__) <= set(dir(package))


def test_no_distribution_is_a_plugin_of_pytest():
    """None registers with pytest, which would import it before coverage begins to measure, and into others' tests."""
    files = [*ROOT.glob("plugins/*/pyproject.toml"), ROOT / "core" / "pyproject.toml"]
    projects = [tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in files]
    assert len(projects) == len(TESTS)
    assert [project["name"] for project in projects if "pytest11" in project.get("entry-points", {})] == []


def inheritors(tree, contract):
    """Return each test class of a module that inherits a contract, directly or not, with the names used in it."""
    bases = {
        node.name: {ast.unparse(base) for base in node.bases} for node in tree.body if isinstance(node, ast.ClassDef)
    }
    bodies = {node.name: names_in(node) for node in tree.body if isinstance(node, ast.ClassDef)}

    def inherits(name):
        return contract in bases.get(name, ()) or any(inherits(base) for base in bases.get(name, ()))

    return {name: made for name, made in bodies.items() if name.startswith("Test") and inherits(name)}


def names_in(node):
    """Return the names that occur in a class."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
