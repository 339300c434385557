"""What the plugin offers keeps the promises of the contracts."""

from __future__ import annotations

import numpy as np

from penstock.record import Record
from penstock.testing import SourceContract, StoreContract
from penstock_shm import ShmObjectStore, ShmSource, ShmStore


class TestShmSource(SourceContract):
    """The source keeps every promise of the contract."""

    repeats = False
    most_unread = 500

    def make_source(self, tmp_path):
        return ShmSource(f"contract {tmp_path}", until_end=True)

    def feed(self, tmp_path):
        store = ShmStore(f"contract {tmp_path}")
        store.open()
        store.write([Record(np.full(100, i), channel="c", seq=i) for i in range(self.count)])
        store.close()


class TestShmStore(StoreContract):
    """The store keeps the promises of the contract that need no memory of its own."""

    outlives = False
    on_disk = False

    def make_store(self, tmp_path):
        return ShmStore(f"contract {tmp_path}", wait_for_consumers=0)


class TestShmObjectStore(StoreContract):
    """The store keeps every promise of the contract."""

    reads_live = True
    several_writers = True
    on_disk = False

    def make_store(self, tmp_path):
        return ShmObjectStore(f"contract {tmp_path}")
