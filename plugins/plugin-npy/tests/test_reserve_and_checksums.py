"""Room that stays free, and checksums of an archive (C5)."""

from __future__ import annotations

import os
import shutil
import subprocess

import numpy as np
import pytest
import xxhash

import penstock as ps
from penstock.errors import ConfigError, StoreError
from penstock.record import Record
from penstock_npy import JsonStore, NpyLogStore, NpyStackStore, NpyStore
from penstock_npy.checksums import verify_checksums

STORES = {
    "npy": lambda root, **settings: NpyStore(path="{{ seq }}.npy", root=root, **settings),
    "npy-stack": lambda root, **settings: NpyStackStore(path="a.npy", root=root, **settings),
    "npy-log": lambda root, **settings: NpyLogStore(path=root, **settings),
    "json": lambda root, **settings: JsonStore(path="{{ seq }}.json", root=root, **settings),
}


@pytest.mark.parametrize("name", STORES)
def test_the_reserve_is_kept(tmp_path, name):
    """What would leave less than the reserve is an error with the figures that may be tried again; later it works."""
    status = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize
    store = STORES[name](tmp_path / "out", reserve_bytes=free * 2)
    store.open()
    record = Record({"a": 1} if name == "json" else np.zeros(10))
    with pytest.raises(StoreError, match=r"bytes are free .* reserve_bytes=") as caught:
        store.write([record])
    assert caught.value.retryable
    assert len(store) == 0
    store.close()
    store = STORES[name](tmp_path / "out", reserve_bytes=1)
    store.open()
    store.write([record])
    assert len(store) == 1
    store.close()


def test_a_run_waits_for_room(tmp_path, monkeypatch):
    """A run whose store has no room above the reserve tries again until there is some, and loses nothing."""
    free = iter([0, 0, 10**9])
    monkeypatch.setattr("penstock_npy.reserve._free_bytes", lambda path: next(free, 10**9))
    store = ps.store("npy", path=f"{tmp_path}/{{{{ seq }}}}.npy", reserve_bytes=1000)
    report = ps.Pipeline(ps.source([np.zeros(10)] * 5) >> store).run(check=True)
    assert report.stored == 5


@pytest.mark.parametrize("value", [-1, 1.5, "1"])
def test_a_reserve_is_a_number_of_bytes(tmp_path, value):
    """An invalid reserve is rejected when the store is created."""
    with pytest.raises((ConfigError, ValueError, TypeError)):
        NpyStore(path="{{ seq }}.npy", root=tmp_path, reserve_bytes=value)


def archive(root):
    for number, name in enumerate(("npy", "json")):
        store = STORES[name](root / name, checksums="xxh3")
        store.open()
        store.write([Record({"n": n} if number else np.full(9, n), seq=n) for n in range(3)])
        store.close()


def test_c5_checksums_are_those_of_the_files(tmp_path):
    """Each directory has a file of checksums, whose lines have the format of xxhsum, and which verifies."""
    archive(tmp_path)
    lines = (tmp_path / "npy/checksums").read_text().splitlines()
    assert lines == [
        f"XXH3_{xxhash.xxh3_64_hexdigest((tmp_path / f'npy/{n}.npy').read_bytes())}  {n}.npy" for n in range(3)
    ]
    assert verify_checksums(tmp_path) == {}
    if shutil.which("xxhsum"):
        subprocess.run(["xxhsum", "--check", "checksums"], cwd=tmp_path / "npy", check=True, capture_output=True)


def test_c5_what_has_changed_is_found(tmp_path):
    """A file that has changed, is missing, or was never noted, is named; after a copy all is verified again."""
    archive(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert verify_checksums(tmp_path / "b") == {}
    (tmp_path / "b/npy/0.npy").write_bytes(b"changed")
    (tmp_path / "b/npy/1.npy").unlink()
    (tmp_path / "b/json/new.json").write_bytes(b"{}")
    assert verify_checksums(tmp_path / "b") == {
        tmp_path / "b/npy/0.npy": "has changed",
        tmp_path / "b/npy/1.npy": "is missing",
        tmp_path / "b/json/new.json": "has no checksum",
    }
    with pytest.raises(ConfigError, match="checksums='xxh3'"):
        verify_checksums(tmp_path / "b/npy/nothing")
