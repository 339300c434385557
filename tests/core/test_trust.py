"""A control channel and `penstock validate` run no code that the author did not list."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import penstock as ps
from penstock.errors import ConfigError
from penstock.run.control import Control


class Allowed:
    """A store that the author lists."""

    made = 0

    def __init__(self):
        Allowed.made += 1

    def open(self): ...
    def write(self, records): ...
    def sync(self): ...
    def close(self): ...


@attrs.define(kw_only=True)
class Listed:
    """A processor that the author lists, with a setting."""

    factor: int = 1

    def __call__(self, record):
        return record


def create(use, role="store", name="x", **settings):
    node = {"name": name, role: use, "settings": settings}
    return {"action": "create", "argument": {"nodes": [node], "edges": [{"before": "control-actions", "after": name}]}}


def asked(*messages, **options):
    got = []
    channel = ps.control([json.dumps(message).encode() for message in messages], name="control", **options)
    ps.Pipeline(channel >> ps.edge(capacity=100) >> (lambda record: got.append(record.data))).run()
    return [answer for answer in got if isinstance(answer, dict) and "ok" in answer]


@pytest.mark.parametrize(
    ("role", "use"),
    [
        ("store", "subprocess:Popen"),
        ("processor", "os:system"),
        ("source", "builtins:open"),
        ("store", "marking.module:Store"),
        ("decoder", "marking:Thing.inner"),
        ("store", "penstock.run.control:Control"),
        ("processor", "penstock.run.control:Control"),
        ("store", "marking-x.y:Store"),
    ],
)
def test_d5_a_message_makes_only_what_plugins_offer(tmp_path, monkeypatch, role, use):
    """A component named by an import path is rejected before its module is imported, whatever its settings."""
    mark = tmp_path / "ran"
    (tmp_path / "marking.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    [answer] = asked(create(use, role, args=["touch", str(mark)]))
    assert not answer["ok"]
    assert "only components of plugins" in answer["error"] or "no plugin" in answer["error"], answer
    assert not mark.exists()
    assert "marking" not in sys.modules


def test_d5_a_message_names_no_error_that_would_be_imported(tmp_path, monkeypatch):
    """An exception that `retry` names by an import path is rejected before it is imported, unless it is listed."""
    mark = tmp_path / "ran"
    (tmp_path / "marking_errors.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Mine(Exception): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    message = create("memory")
    message["argument"]["nodes"][0]["retry"] = {"on": ["OSError", "marking_errors:Mine"]}
    [answer] = asked(message)
    assert not answer["ok"]
    assert "exception 'marking_errors:Mine' is refused in a message" in answer["error"]
    assert not mark.exists()
    [answer] = asked(message, allow=["marking_errors:Mine"])
    assert answer["ok"], answer
    assert mark.exists()
    sys.modules.pop("marking_errors", None)


def test_d5_a_message_makes_what_the_author_listed():
    """`allow` takes classes and import paths; only these, and components of plugins, are created."""
    before = Allowed.made
    path = f"{__name__}:Allowed"
    refused, made, named = asked(
        create(f"{__name__}:Listed", "processor", "p"), create(path), create("memory", name="m"), allow=[Allowed]
    )
    assert "only components of plugins" in refused["error"]
    assert (made["ok"], made["result"]) == (True, ["x"]), made
    assert named["ok"], named
    assert Allowed.made > before


def test_d5_a_message_changes_no_control_channel():
    """`update` cannot change the actions of a control channel, or its list of allowed components."""
    for settings in ({"allow": ["subprocess:Popen"]}, {"actions": {"run": "subprocess:Popen"}}):
        [answer] = asked({"action": "update", "argument": {"node": "control-actions", "settings": settings}})
        assert "cannot change a control channel" in answer["error"]


@pytest.mark.parametrize("allow", ["subprocess:Popen", [lambda: 1], ["popen"], [3]])
def test_d5_allow_is_a_list_of_import_paths(allow):
    """Anything that an import path cannot name is rejected when the channel is created."""
    with pytest.raises(ConfigError, match="allow"):
        Control(allow=allow)


def test_d5_a_channel_that_allows_is_written_to_a_file():
    """`allow` is data: it is written to a file and read back as import paths."""
    pipeline = ps.Pipeline(ps.control("files", directory="a", allow=[Listed]) >> ps.store("memory"))
    assert f"{__name__}:Listed" in pipeline.to_toml()
    assert ps.Pipeline.from_toml(pipeline.to_toml()) == pipeline


# -- commands ----------------------------------------------------------------------------------------------------------


def penstock(*arguments, cwd):
    command = [sys.executable, "-m", "penstock", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def file(tmp_path):
    """A pipeline file whose processor is a module beside it, which leaves a mark when it is imported or called."""
    (tmp_path / "mine.py").write_text("open('ran', 'w')\n\n\ndef upper(record):\n    return record\n")
    (tmp_path / "a.toml").write_text(
        'nodes = [\n  {name = "in", source = "files", settings = {directory = "in"}},\n'
        '  {name = "up", processor = "mine:upper"},\n  {name = "bad", store = "subprocess:Popen", '
        'settings = {args = ["touch", "ran"]}},\n]\nedges = [{before = "in", after = "up"}, {before = "up", '
        'after = "bad"}]\n'
    )
    return tmp_path / "a.toml"


def test_d1_validate_imports_nothing_of_the_user(file):
    """Validate checks components of plugins, and names the unchecked nodes, and how to have them checked."""
    done = penstock("validate", "a.toml", cwd=file.parent)
    assert (done.returncode, done.stdout) == (0, "a.toml: ok: 3 nodes, 2 edges\n"), done.stderr
    assert "not checked: node 'up' is 'mine:upper', and to check it means to import it: see --import" in done.stderr
    assert "not checked: node 'bad'" in done.stderr
    assert penstock("graph", "a.toml", cwd=file.parent).returncode == 0
    assert penstock("plugins", cwd=file.parent).returncode == 0
    assert not (file.parent / "ran").exists()


def test_d1_validate_imports_when_it_is_told(file):
    """--import imports the names in the file, and checks them."""
    (file.parent / "a.toml").write_text(file.read_text().replace("subprocess:Popen", "mine:lower"))
    done = penstock("validate", "--import", "a.toml", cwd=file.parent)
    assert done.returncode == 1
    assert "node 'bad'" in done.stderr
    assert (file.parent / "ran").exists()


def test_d1_a_pipeline_is_data_until_it_is_checked(file, monkeypatch):
    """Reading, comparing, drawing and writing a pipeline import none of its components."""
    monkeypatch.chdir(file.parent)
    pipeline = ps.Pipeline.read("a.toml")
    assert pipeline == ps.Pipeline.from_toml(pipeline.to_toml())
    assert "up" in pipeline.to_mermaid() + pipeline.to_svg() + repr(pipeline)
    assert [node.name for node in pipeline.check(import_paths=False)] == ["up", "bad"]
    assert not Path("ran").exists()


def test_d1_validate_compiles_templates(tmp_path):
    """An invalid template is found without opening anything, with its node and its setting."""
    (tmp_path / "a.toml").write_text(
        'nodes = [{name = "in", source = "files", settings = {directory = "in"}},\n'
        '{name = "keep", store = "memory", settings = {key = "x/{seq:04d}"}}]\n'
        'edges = [{before = "in", after = "keep"}]\n'
    )
    done = penstock("validate", "a.toml", cwd=tmp_path)
    assert done.returncode == 1
    assert "node 'keep'" in done.stderr
    assert "key: template 'x/{seq:04d}'" in done.stderr
    assert "write {{ '%04d' % seq }}" in done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pipline.toml", ["pipline.toml: No such file or directory", "did you mean 'pipeline.toml'?"]),
        ("pipeline", ["pipeline: No such file or directory", "did you mean 'pipeline.toml'?"]),
        (".", [".: Is a directory", "or 'pipeline.toml'?"]),
        ("script.py", ["is a Python program, not a pipeline file: run it by `python script.py`"]),
        ("picture.toml", ["picture.toml: is not UTF-8 text (byte 0)"]),
        ("a.txt", ["a.txt: has none of the suffixes .toml, .yaml, .yml, .json"]),
    ],
)
@pytest.mark.parametrize("command", ["run", "validate", "graph"])
def test_d1_a_file_that_is_none_is_one_sentence(tmp_path, command, name, words):
    """A file that is missing, a directory, a program, binary or of another kind is named, with a suggestion."""
    (tmp_path / "pipeline.toml").write_text("nodes = []\n")
    (tmp_path / "picture.toml").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "script.py").write_text("")
    (tmp_path / "a.txt").write_text("")
    done = penstock(command, name, cwd=tmp_path)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    for word in words:
        assert word in line


def test_d1_what_is_not_installed_says_what_brings_it():
    """For a misspelt name, or the module of a missing plugin, the error names the distribution."""
    from penstock.plugins import Plugins

    none = Plugins(())
    for name in ("lmdbb", "lmdb"):
        with pytest.raises(ps.errors.UnknownComponentError, match="pip install penstock-lmdb"):
            none.find("store", name)
    error = ModuleNotFoundError("No module named 'penstock_lmdb'", name="penstock_lmdb")
    assert ps.plugins.explain.brings(error) == "penstock-lmdb"
