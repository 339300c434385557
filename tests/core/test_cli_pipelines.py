"""`penstock run`, `validate`, `graph` and `replay` on pipelines in files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import penstock as ps
from penstock.builtin.files import FilesSource


def penstock(*arguments, cwd):
    """Run the command as users do: the script, which does not look for modules in the current directory."""
    command = [str(Path(sys.executable).with_name("penstock")), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def place(tmp_path):
    """A directory with five files and a pipeline that keeps them in a log."""
    (tmp_path / "in").mkdir()
    for name in "abcde":
        (tmp_path / "in" / name).write_bytes(name.encode() * 3)
    source = ps.source(FilesSource(directory="in"), name="files")
    pipeline = ps.Pipeline(source >> ps.processor("rules:upper", name="upper") >> ps.store("log", path="all.log"))
    (tmp_path / "rules.py").write_text(
        "def upper(record):\n    if record.data == b'ccc':\n        raise ValueError('no c')\n"
        "    return record.replace(data=record.data.upper())\n"
    )
    sys.path.insert(0, str(tmp_path))
    pipeline.write(tmp_path / "files.toml")
    sys.path.remove(str(tmp_path))
    return tmp_path


def test_run_validate_graph_replay(place):
    """A file is checked, drawn and run; failed records are listed, and replayed once the fault is fixed."""
    done = penstock("validate", "files.toml", cwd=place)
    assert (done.returncode, done.stdout) == (0, "files.toml: ok: 3 nodes, 2 edges\n"), done.stderr
    assert "flowchart LR" in penstock("graph", "files.toml", cwd=place).stdout
    assert penstock("graph", "files.toml", "--format", "svg", "--out", "graph.svg", cwd=place).returncode == 0
    assert "<svg" in (place / "graph.svg").read_text()
    done = penstock("run", "files.toml", "--json", cwd=place)
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert (report["stored"], report["dead_lettered"], report["balanced"]) == (4, 1, True)
    assert report["problems"] == ["node 'upper' (rules): 1 record was dead-lettered; last error: ValueError: no c"]
    assert "Traceback" not in done.stderr
    listed = penstock("replay", report["dead_letters"], cwd=place)
    assert re.search(r"upper: record \d+ of channel 'in': builtins\.ValueError: no c \(1 try, rules\)", listed.stdout)
    assert f"penstock replay {report['dead_letters']} --into FILE" in listed.stderr
    (place / "rules.py").write_text("def upper(record):\n    return record.replace(data=record.data.upper())\n")
    done = penstock("replay", report["dead_letters"], "--into", "files.toml", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    from penstock.recordlog import read_log

    assert [record.data for _, record in read_log(place / "all.log")] == [b"AAA", b"BBB", b"DDD", b"EEE", b"CCC"]


def test_a_report_cannot_steer_a_terminal(place):
    """An error's text is on one line, in the report and in the list of dead letters, without escapes."""
    (place / "rules.py").write_text("def upper(record):\n    raise ValueError('red \\x1b[31m\\nrun: ok')\n")
    done = penstock("run", "files.toml", cwd=place)
    assert done.returncode == 1
    assert "last error: ValueError: red \\x1b[31m run: ok\n" in done.stdout
    assert "\x1b" not in done.stdout
    listed = penstock("replay", place / "penstock-dead-letters", cwd=place).stdout
    assert len(listed.splitlines()) == 5
    assert "ValueError: red \\x1b[31m run: ok (1 try, rules)" in listed
    assert "\x1b" not in listed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace('"log"', '"logg"'), ["node 'logg'", "did you mean 'log'"]),
        (lambda text: text.replace('path = "all.log"', 'pathh = "all.log"'), ["'log'", "pathh", "path"]),
        (lambda text: text.replace('after = "upper"', 'after = "uper"'), ["files.toml", "$.edges[0].after", "'uper'"]),
        (
            lambda text: text.replace('after = "log"', 'after = "log", when_full = "spill"'),
            ["files.toml: $.edges[1]: when_full='spill': must be block"],
        ),
        (lambda text: text.replace('after = "log"', 'after = "log", capacity = 0'), ["$.edges[1]: capacity", "0"]),
        (lambda text: text.replace("penstock = 1", "penstock = 9"), ["files.toml", "format 9"]),
        (lambda text: text + "\n= nonsense", ["files.toml"]),
        (
            lambda text: text.replace("rules:upper", "rules:lower"),
            ["node 'upper'", "rules:lower", "cannot be imported"],
        ),
    ],
)
@pytest.mark.parametrize("command", ["run", "validate --import"])
def test_a_wrong_file_is_one_sentence(place, command, change, words):
    """An error in a file is reported in one sentence with the place, and nothing is written."""
    text = (place / "files.toml").read_text()
    (place / "files.toml").write_text(change(text))
    done = penstock(*command.split(), "files.toml", cwd=place)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("penstock: error: ")
    for word in words:
        assert word in line
    assert not (place / "all.log").exists()
