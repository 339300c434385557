"""The stores of this plugin keep every promise of the contract."""

from __future__ import annotations

from pathlib import Path

from penstock.testing import StoreContract
from penstock_npy import JsonStore, NpyStackStore, NpyStore


def cut_in_half(path):
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return True


PATH = "{{ channel }}/{{ '%06d' % seq }}"


class TestNpyStore(StoreContract):
    reads_live = True
    several_writers = True

    def make_store(self, tmp_path):
        return NpyStore(path=PATH + ".npy", root=tmp_path)

    def make_unopenable(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        return NpyStore(path=PATH + ".npy", root=tmp_path / "file")

    def damage(self, tmp_path, key):
        return cut_in_half(tmp_path / key)


class TestNpyStoreOfBareArrays(StoreContract):
    keeps = ("data",)
    reads_live = True
    several_writers = True

    def make_store(self, tmp_path):
        return NpyStore(path=PATH + ".npy", root=tmp_path, sidecar="none")


class TestNpyStoreWithSidecar(StoreContract):
    reads_live = True
    several_writers = True

    def make_store(self, tmp_path):
        return NpyStore(path=PATH + ".npy", root=tmp_path, sidecar="json")

    def damage(self, tmp_path, key):
        (sidecar,) = tmp_path.rglob(f"{Path(key).stem}*.json")
        return cut_in_half(sidecar)


class TestNpyStoreThatReplaces(StoreContract):
    many = 200

    def make_store(self, tmp_path):
        return NpyStore(path=PATH + ".npy", root=tmp_path, when_exists="replace", sync_each=True)


class TestNpyStoreThatSkips(StoreContract):
    def make_store(self, tmp_path):
        return NpyStore(path=PATH + ".npy", root=tmp_path, when_exists="skip")


class TestJsonStore(StoreContract):
    keeps = ("data", "metadata")
    reads_live = True

    def make_store(self, tmp_path):
        return JsonStore(path=PATH + ".json", root=tmp_path, merge_metadata=True)

    def make_unopenable(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        return JsonStore(path=PATH + ".json", root=tmp_path / "file")

    def damage(self, tmp_path, key):
        return cut_in_half(tmp_path / key)

    def make_data(self, number):
        return {"number": number, "text": "Å", "list": [1, 2.5, None, {"a": []}]}


class TestNpyStackStore(StoreContract):
    reads_live = True

    def make_store(self, tmp_path):
        return NpyStackStore(path="{{ channel }}.npy", root=tmp_path)

    def make_unopenable(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        return NpyStackStore(path="{{ channel }}.npy", root=tmp_path / "file")
