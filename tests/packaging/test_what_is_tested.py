"""The tests run against what is installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import sysconfig
from pathlib import Path

import pytest

OURS = sorted(dist.name for dist in importlib.metadata.distributions() if dist.name.startswith("penstock"))


@pytest.mark.parametrize("distribution", OURS or ["penstock"])
def test_penstock_is_imported_from_where_it_is_installed(distribution: str) -> None:
    """The tests import the wheels in site-packages, not the sources beside them: run them with `nox -s tests`."""
    module = importlib.import_module(distribution.replace("-", "_"))
    assert module.__file__ is not None
    assert Path(module.__file__).is_relative_to(Path(sysconfig.get_path("purelib")))
