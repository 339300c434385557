"""Wheels and environments, as the tests of packaging make them, and pip to put made packages into one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ..packaging.conftest import make_environment, wheels  # noqa: F401, TID252 - fixtures; the tests are in no package


@pytest.fixture(scope="session")
def install():
    """A function that builds and installs projects into an environment; what they require is there already."""

    def install(environment, *projects):
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        command += [f"--python={environment.path / 'bin' / 'python'}", "install", "--no-deps", *map(str, projects)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    return install
