"""The reference of contracts and abilities and the code are the same: every protocol, its methods and parameters."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "contracts.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([\w ]+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
MODULES = {
    "Source": "penstock.source",
    "Decoder": "penstock.decoder",
    "Processor": "penstock.processor",
    "Store": "penstock.store",
    "Every component": "penstock.component",
}


def rows(section):
    """Return the rows of the table of a section, each as a tuple of cells."""
    lines = re.findall(r"^\| (`.*) \|$", section, re.MULTILINE)
    return [tuple(cell.strip() for cell in line.split(" | ")) for line in lines]


def promised(module):
    """Return (protocol, method with its parameters) of each protocol that a module makes."""
    found = []
    for name, protocol in vars(importlib.import_module(module)).items():
        if getattr(protocol, "_is_protocol", False) and protocol.__module__ == module:
            for method, value in vars(protocol).items():
                function = inspect.unwrap(getattr(value, "__func__", value))
                if inspect.isfunction(function) and (
                    not method.startswith("_") or method in ("__contains__", "__len__")
                ):
                    found.append((name, f"{method}({shown(function)})"))
            attributes = getattr(protocol, "__annotations__", {})
            found += [(name, each) for each in attributes if name.startswith("Supports")]
    return found


def shown(function):
    """Return the names of the parameters of a method as the page writes them, without self."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(function).parameters.values()
    return ", ".join(stars.get(each.kind, "") + each.name for each in parameters if each.name not in ("self", "cls"))


@pytest.mark.parametrize("section", MODULES)
def test_every_method_of_every_ability_is_on_the_page(section):
    """Each contract and ability has a row for each method, with its parameters, in the order of the code."""
    said = [(row[0].strip("`"), row[1].strip("`")) for row in rows(SECTIONS[section])]
    assert [row for row in said if row[0] != "Processor"] == promised(MODULES[section])


@pytest.mark.parametrize("section", MODULES)
def test_every_row_says_who_calls_from_where_and_what_may_be_raised(section):
    """No cell of the tables is empty, and each thread is one that the page explains."""
    for row in rows(SECTIONS[section]):
        assert len(row) == 5, row
        assert all(row), row
        assert row[3].split(";")[0] in ("node", "any", "the thread that starts the run"), row


def test_every_class_attribute_is_on_the_page():
    """The attributes of the contracts, of built-in components and what the core asks components for are the page's."""
    said = {row[0].strip("`") for row in rows(SECTIONS["Attributes"])}
    core = ROOT / "core" / "src" / "penstock"
    texts = {path: path.read_text(encoding="utf-8") for path in core.rglob("*.py")}
    declared = set()
    for path, text in texts.items():
        if path.parent == core / "builtin" or path.name in ("source.py", "decoder.py", "store.py"):
            declared |= set(re.findall(r"^    ([a-z]\w*): ClassVar\[", text, re.MULTILINE))
    assert declared <= said, f"not on the page: {sorted(declared - said)}"
    asked = {word for text in texts.values() for word in re.findall(r"getattr\([\w.() ]+, \"(\w+)\"", text)} | declared
    assert said <= asked | set(re.findall(r"\.(\w+)\b", " ".join(texts.values()))), sorted(said - asked)
