"""The four packages that `penstock new` makes, installed in an environment of their own, work and pass their tests."""

from __future__ import annotations

import itertools
import json
import subprocess

import pytest

from penstock.component import ROLES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def made(wheels, make_environment, install, tmp_path_factory):
    """The environment, and the directory in which the four packages were made with its own `penstock new`."""
    directory = tmp_path_factory.mktemp("made")
    (core,) = wheels.resolve().glob("penstock-[0-9]*.whl")
    environment = make_environment([f"penstock[testing] @ {core.as_uri()}", "pytest-timeout"])
    for role in ROLES:
        environment.run("penstock", "new", role, f"acme-{role}", cwd=directory)
    install(environment, *(directory / f"penstock-acme-{role}" for role in ROLES))
    return environment, directory


@pytest.mark.parametrize("role", ROLES)
def test_its_tests_pass_at_once(made, role):
    """The tests of a made package pass without a change, and none is skipped."""
    environment, directory = made
    command = [environment.path / "bin" / "python", "-m", "pytest", "-q"]
    project = directory / f"penstock-acme-{role}"
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def test_they_are_listed(made):
    """`penstock plugins` lists the four, each sound and offering its component, and exits with 0."""
    environment, _ = made
    listed = json.loads(environment.run("penstock", "plugins", "--json").stdout)["plugins"]
    found = {plugin["name"]: plugin for plugin in listed}
    for role in ROLES:
        plugin = found[f"penstock-acme-{role}"]
        assert (plugin["status"], plugin["reason"]) == ("ok", "")
        assert [component["name"] for component in plugin["components"][role]] == [f"acme-{role}"]


def test_a_pipeline_of_the_four(made, tmp_path):
    """All four work together, by their names, from Python and from a TOML file with the command line."""
    environment, _ = made
    (tmp_path / "input.txt").write_text("one,two\nthree,four\n")
    (tmp_path / "make.py").write_text(
        "import penstock as ps\n"
        "flow = ps.source('acme-source', path='input.txt') >> ps.decoder('acme-decoder', separator=b',')\n"
        "flow = flow >> ps.processor('acme-processor', factor=2)\n"
        "report = ps.Pipeline(flow >> ps.store('acme-store', path='from python')).run()\n"
        "assert report.ok and report.stored == 3, str(report)\n"
    )
    environment.run("python", "-W", "error", "make.py", cwd=tmp_path)
    (tmp_path / "pipeline.toml").write_text(
        "penstock = 1\n"
        + "".join(
            f'[[nodes]]\nname = "{role}"\n{role} = "acme-{role}"\n{settings}\n'
            for role, settings in [
                ("source", 'settings = { path = "input.txt" }'),
                ("decoder", ""),
                ("processor", "settings = { factor = 2 }"),
                ("store", 'settings = { path = "from a file" }'),
            ]
        )
        + "".join(f'[[edges]]\nbefore = "{a}"\nafter = "{b}"\n' for a, b in itertools.pairwise(ROLES))
    )
    environment.run("penstock", "run", "pipeline.toml", cwd=tmp_path)
    assert len(list((tmp_path / "from a file").iterdir())) == 1  # a stream of lines without their ends is one line
