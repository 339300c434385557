"""Fixtures for the tests of the core."""

from __future__ import annotations

import pytest

from penstock.testing.leaks import no_leaks


@pytest.fixture
def nothing_left(tmp_path, monkeypatch):
    """No thread or file is left by any test; dead letters go to the test's directory."""
    monkeypatch.chdir(tmp_path)
    with no_leaks():
        yield
