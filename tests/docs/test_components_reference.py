"""The reference of built-in components and the code are the same: names, order, settings, types and defaults."""

from __future__ import annotations

import importlib
import re
import typing
from pathlib import Path

import attrs
import pytest

from penstock.builtin import hooks

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "components.md").read_text(encoding="utf-8")
ROLES = dict(re.findall(r"^## (\w+)s\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
OFFERED = {
    (role, component.name): component
    for role in ("source", "decoder", "processor", "store")
    for component in getattr(hooks, f"penstock_{role}s")()
}


def sections(role):
    """Return the section of each component of a role."""
    return dict(re.findall(r"^### ([\w-]+)\n(.*?)(?=^### |\Z)", ROLES[role.capitalize()], re.DOTALL | re.MULTILINE))


def typed(annotation, module):
    """Return an annotation as the page writes it: without aliases, and without `|`, which would end the cell."""
    value = vars(module).get(annotation)
    if typing.get_origin(value) is typing.Literal:
        annotation = f"Literal[{', '.join(map(repr, typing.get_args(value)))}]"
    return annotation.replace('"', "'").replace(" | ", " or ")


def default_of(field):
    """Return the default of a field as the page writes it."""
    if field.default is attrs.NOTHING:
        return "required"
    if isinstance(field.default, attrs.Factory):
        return "made from the others" if field.default.takes_self else f"`{field.default.factory()!r}`"
    return f"`{field.default!r}`"


def test_every_component_has_its_section():
    """Each role has a section for each component that the core offers, in the order of the code."""
    assert [(role.lower(), name) for role in ROLES for name in sections(role)] == list(OFFERED)


@pytest.mark.parametrize(("role", "name"), OFFERED)
def test_every_setting_is_on_the_page(role, name):
    """The table of a component has its settings, each with its type, its default and a meaning."""
    section = sections(role)[name]
    path, _, qualname = OFFERED[role, name].path.partition(":")
    module = importlib.import_module(path)
    fields = [field for field in attrs.fields(getattr(module, qualname)) if field.init]
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| (.*?) \| (.+?) \|$", section, re.MULTILINE)
    annotations = getattr(module, qualname).__annotations__
    said = [(setting, kind, default) for setting, kind, default, _ in rows]
    assert said == [(field.alias, typed(annotations[field.name], module), default_of(field)) for field in fields]
    assert ("no settings" in " ".join(section.split())) == (not fields)
