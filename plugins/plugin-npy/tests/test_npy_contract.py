"""The stores of this plugin keep every promise of the contract."""

from __future__ import annotations

from penstock.testing import StoreContract
from penstock_npy import JsonStore, NpyStore

PATH = "{{ channel }}/{{ '%06d' % seq }}"


class TestNpyStore(StoreContract):
    keeps = ("data",)
    reads_live = True
    several_writers = True

    def make_store(self, tmp_path):
        return NpyStore(path=PATH + ".npy", root=tmp_path)


class TestNpyStoreWithSidecar(StoreContract):
    reads_live = True
    several_writers = True

    def make_store(self, tmp_path):
        return NpyStore(path=PATH + ".npy", root=tmp_path, sidecar="json")


class TestNpyStoreThatReplaces(StoreContract):
    keeps = ("data",)
    many = 200

    def make_store(self, tmp_path):
        return NpyStore(path=PATH + ".npy", root=tmp_path, when_exists="replace", sync_each=True)


class TestNpyStoreThatSkips(StoreContract):
    keeps = ("data",)

    def make_store(self, tmp_path):
        return NpyStore(path=PATH + ".npy", root=tmp_path, when_exists="skip")


class TestJsonStore(StoreContract):
    keeps = ("data", "metadata")
    reads_live = True

    def make_store(self, tmp_path):
        return JsonStore(path=PATH + ".json", root=tmp_path, merge_metadata=True)

    def make_data(self, number):
        return {"number": number, "text": "Å", "list": [1, 2.5, None, {"a": []}]}
