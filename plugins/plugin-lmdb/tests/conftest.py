"""Stores of objects for these tests."""

from __future__ import annotations

import pytest

from penstock.testing import no_leaks
from penstock_lmdb import (
    LMDBStore,
)


@pytest.fixture
def make(tmp_path):
    """Make stores in one directory, and close them at the end."""
    stores = []

    def make_store(name="run", **settings):
        store = LMDBStore(tmp_path, name, **settings)
        stores.append(store)
        return store

    with no_leaks():
        yield make_store
        for store in stores:
            store.close()
