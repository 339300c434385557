"""The reference of hooks and the hooks are the same: names, order, parameters; and its examples work."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from penstock import hookspecs
from penstock.cli.from_plugins import GROUP
from penstock.plugins import PluginReport
from penstock.plugins.examine import OFFERING, examine, hook_parameters

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "hooks.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (penstock_\w+)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))


def test_every_hook_has_its_heading():
    """Each hook has a heading in the reference, in the order of the code, and each heading is a hook."""
    assert list(SECTIONS) == list(hook_parameters())


def test_every_hook_has_a_docstring():
    """Each hook says in the code, too, when it is called."""
    assert [name for name in hook_parameters() if not getattr(hookspecs, name).__doc__] == []


@pytest.mark.parametrize("hook", hook_parameters())
def test_example_is_a_plugin_that_works(hook, monkeypatch):
    """The example of a hook, taken as a plugin, is found to be right, and offers something if the hook is to offer."""
    (source,) = re.findall(r"^```python\n(.*?)^```", SECTIONS[hook], re.DOTALL | re.MULTILINE)
    module = types.ModuleType("example_of_the_reference")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source, f"hooks.md, {hook}", "exec"), vars(module))
    report, hooks = examine(PluginReport(name="example", module=module.__name__))
    assert (report.status, report.reason) == ("ok", "")
    assert list(hooks) == [hook]
    assert list(report.components) == ([OFFERING[hook]] if hook in OFFERING else [])


def test_examples_of_watchers_can_be_called(capsys):
    """The example of each watching hook runs when it is called with what the hook gives."""
    given = {
        "name": "run", "nodes": {"a": "source"}, "report": "report", "edge": "a -> b", "channel": "camera", "count": 3,
        "node": "a", "error": OSError("disk full"), "positions": {"a": 7}, "silent_s": 2.5,
    }  # fmt: skip
    for hook, section in SECTIONS.items():
        if hook in OFFERING:
            continue
        (source,) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        names: dict[str, object] = {}
        exec(compile(source, f"hooks.md, {hook}", "exec"), names)
        function = names[hook]
        assert isinstance(function, types.FunctionType)
        function(**{name: given[name] for name in function.__code__.co_varnames[: function.__code__.co_argcount]})
        assert capsys.readouterr().out


def test_the_contract_of_the_page_is_that_of_the_code():
    """The entry-point group that the reference tells authors to write is the one that is looked for."""
    assert f'[project.entry-points."{hookspecs.ENTRY_POINT_GROUP}"]' in PAGE


@pytest.mark.parametrize("word", ["PENSTOCK_WITHOUT", "PENSTOCK_TRACE", "`left out`", "`incompatible`", "`broken`"])
def test_statuses_and_variables_are_explained(word):
    """Every status and every environment variable of finding plugins is in the reference."""
    assert word in PAGE


def test_example_of_a_command_works():
    """The example of a command is one, and its entry-point group is the one that is looked for."""
    (section,) = re.findall(r"^## Commands\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    (source,) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(compile(source, "hooks.md, commands", "exec"), names)
    (command,) = [each for each in names.values() if isinstance(each, click.Command)]
    assert CliRunner().invoke(command, ["4711"]).output == "4711 is well\n"
    assert f'[project.entry-points."{GROUP}"]' in section
