"""Sources of files for these tests."""

from __future__ import annotations

import pytest

from penstock.testing import no_leaks
from penstock_npy import NpyFilesSource


@pytest.fixture
def opened():
    """Open sources, and close them at the end."""
    sources = []

    def open_source(path, **settings):
        source = NpyFilesSource(path=path, **settings)
        source.open()
        sources.append(source)
        return source

    with no_leaks():
        yield open_source
        for source in sources:
            source.close()
