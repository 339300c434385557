"""The store of this plugin keeps every promise of the contract, with each of the three ways of keys."""

from __future__ import annotations

from penstock.testing import StoreContract
from penstock_lmdb import LmdbRecordStore


class TestLmdbStore(StoreContract):
    reads_live = True
    several_writers = True

    def make_store(self, tmp_path):
        return LmdbRecordStore(path=tmp_path / "records.lmdb", map_size=1 << 16)

    def make_reader(self, tmp_path):
        return LmdbRecordStore(path=tmp_path / "records.lmdb", readonly=True)

    def make_unopenable(self, tmp_path):
        (tmp_path / "records.lmdb").write_bytes(b"this is not an LMDB file" * 1000)
        return LmdbRecordStore(path=tmp_path / "records.lmdb")


class TestLmdbStoreByCoordinates(StoreContract):
    keyed_by = "coordinates"
    reads_live = True
    several_writers = True

    def make_store(self, tmp_path):
        return LmdbRecordStore(path=tmp_path / "records.lmdb", map_size=1 << 16, key_by="coordinates")

    def make_reader(self, tmp_path):
        return LmdbRecordStore(path=tmp_path / "records.lmdb", readonly=True, key_by="coordinates")


class TestLmdbStoreInSequence(StoreContract):
    keyed_by = "arrival"
    reads_live = True
    several_writers = True

    def make_store(self, tmp_path):
        return LmdbRecordStore(path=tmp_path / "records.lmdb", map_size=1 << 16, key_by="sequence")

    def make_reader(self, tmp_path):
        return LmdbRecordStore(path=tmp_path / "records.lmdb", readonly=True, key_by="sequence")


class TestLmdbStoreThatFlushesInSync(StoreContract):
    def make_store(self, tmp_path):
        return LmdbRecordStore(path=tmp_path / "directory", when_exists="replace", flush_each="sync")

    def make_unopenable(self, tmp_path):
        return LmdbRecordStore(path=tmp_path / "nothing", readonly=True)


class TestLmdbStoreOfBytes(StoreContract):
    def make_store(self, tmp_path):
        return LmdbRecordStore(path=tmp_path / "records.lmdb", when_exists="skip")

    def make_data(self, number):
        return f"packet {number}".encode() * 100
