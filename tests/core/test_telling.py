"""Failures are reported: on stderr without any configuration, one line per node, and as an error if requested."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import textwrap

import pytest

import penstock as ps
from penstock.errors import PenstockError, RunError, RunFailedError


def bad(record):
    raise ValueError(f"no {record.data}")


def stderr_of(directory, code):
    """Run a program, and return the lines that it prints on stderr."""
    code = "import penstock as ps\ndef bad(*given):\n    raise ValueError(f'no {given[0]}')\n" + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    "form",
    [
        "flow.run()",
        "run = flow.start(); run.wait()",
        "run = flow.start(); run.wait(); run.stop()",
        "with flow.start() as run: run.wait()",
        "run = flow.start(); run.wait(30); del run",
    ],
)
def test_a_program_whose_records_all_fail_is_heard(tmp_path, form):
    """However a run is started and ended, one line per node has the failures, the first error, and its place."""
    lines = stderr_of(
        tmp_path,
        f"""
        flow = ps.Pipeline(ps.source([ps.Record(n, seq=n) for n in range(1000)]) >> bad >> ps.store("memory"))
        {form}
        """,
    )
    assert lines[0].startswith("run 'pipeline': NOT OK: 1000 received, 0 stored; dead letters: penstock-dead-letters")
    assert "node 'bad' (__main__): 1000 records were dead-lettered; first error: ValueError: no Record(" in lines[1]
    assert len(lines) == 2


def test_a_handler_is_heard(tmp_path):
    """A handler whose records fail reports it once at its end."""
    lines = stderr_of(
        tmp_path,
        """
        with ps.DataHandler("memory", bad) as handler:
            for t in range(5):
                handler.put({"t": t}, t)
            handler.finish()
        """,
    )
    assert len(lines) == 2
    assert "5 records were dead-lettered; first error: ValueError: no " in lines[1]


def test_logging_that_is_configured_is_used(tmp_path):
    """A program that configures logging gets warnings there, a few, and not one for each record."""
    lines = stderr_of(
        tmp_path,
        """
        import logging; logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s")
        ps.Pipeline(ps.source(range(1000)) >> bad >> ps.store("memory")).run()
        """,
    )
    assert lines.count("WARNING penstock.report") == 2
    assert len(lines) == 3


def test_check_raises(tmp_path, caplog):
    """`run(check=True)` and `raise_if_failed` raise an error with the report; nothing is logged besides."""
    pipeline = ps.Pipeline(ps.source(range(3)) >> bad >> ps.store("memory"), dead_letters=tmp_path)
    with pytest.raises(RunFailedError, match=r"node 'bad'.*3 records were dead-lettered") as caught:
        pipeline.run(check=True)
    assert isinstance(caught.value, (PenstockError, RunError, RuntimeError))
    assert caught.value.report.dead_lettered == 3
    assert not [entry for entry in caplog.records if entry.name == "penstock.report"]
    with pytest.raises(RunFailedError):
        caught.value.report.raise_if_failed()
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (str(copied), copied.report) == (str(caught.value), caught.value.report)
    good = ps.Pipeline(ps.source(range(3)) >> ps.store("memory")).run(check=True)
    good.raise_if_failed()
    with ps.DataHandler("memory", lambda *_: 1 / 0, dead_letters=tmp_path) as handler:
        handler.put({"t": 1}, 1)
        with pytest.raises(RunFailedError):
            handler.finish().raise_if_failed()


def test_many_problems_do_not_flood(tmp_path, caplog):
    """A run with hundreds of failing nodes logs a few lines, and the number of further ones."""
    numbers = ps.source([1], name="numbers")
    flows = [numbers >> ps.processor(bad, name=f"bad{index}") for index in range(40)]
    with caplog.at_level(logging.WARNING, "penstock.report"):
        report = ps.Pipeline(*flows, dead_letters=tmp_path).run()
    lines = [entry.getMessage() for entry in caplog.records if entry.name == "penstock.report"]
    assert len(report.problems) == 40
    assert len(lines) == 22
    assert "20 more" in lines[-1]


def test_the_command_prints_it_once(tmp_path):
    """`penstock run` prints the report, and does not log the same besides."""
    (tmp_path / "rules.py").write_text("def bad(record):\n    raise ValueError('no')\n")
    (tmp_path / "p.toml").write_text(
        'penstock = 1\n[[nodes]]\nname = "files"\nsource = "files"\nsettings = {directory = "in"}\n[[nodes]]\n'
        'name = "bad"\nprocessor = "rules:bad"\n[[edges]]\nbefore = "files"\nafter = "bad"\n'
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("a")
    command = [sys.executable, "-c", "from penstock.cli import main; main()", "run", "--no-progress", "p.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.count("ValueError: no") == 1
