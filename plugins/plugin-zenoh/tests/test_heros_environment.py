"""The environment with the real heros, in which these tests have their peers."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest


@pytest.fixture
def environment():
    """`heros_environment` of this directory's conftest."""
    spec = importlib.util.spec_from_file_location("zenoh_conftest", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.heros_environment


def test_without_a_network_it_is_skipped_with_what_to_do(environment, tmp_path, monkeypatch):
    """Where heros cannot be downloaded a test is skipped, and says how to get it; nothing half-made stays in use."""
    for name, value in {
        "XDG_CACHE_HOME": str(tmp_path),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("CI", "PENSTOCK_HEROS_PYTHON", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"run these tests once while online, or set PENSTOCK_HEROS_PYTHON"):
        environment()
    assert not list(tmp_path.rglob("complete"))


def test_an_environment_of_the_users_own_is_taken(environment, monkeypatch):
    """PENSTOCK_HEROS_PYTHON names the interpreter of an environment that is there already."""
    monkeypatch.setenv("PENSTOCK_HEROS_PYTHON", "/opt/heros/bin/python")
    assert environment() == "/opt/heros/bin/python"
