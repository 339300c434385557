"""`kill -9` at any moment: what was committed is there and whole, and a restart brings the rest."""

from __future__ import annotations

import json
import random
from subprocess import TimeoutExpired

import numpy as np
import pytest

from penstock.recordlog import read_log
from penstock_lmdb.store import LmdbRecordStore

FILES = 2000


def content(number):
    return random.Random(number).randbytes(300 + number)


def committed(directory):
    """Return how many files are reported as safe."""
    state = directory / "state.json"
    return int(json.loads(state.read_text())["done"][:4]) + 1 if state.exists() else 0


def check(directory, expected):
    """Whatever is in the stores is whole; the first `expected` files are in all of them."""
    arrays = {}
    for path in (directory / "npy").glob("*.npy"):
        arrays[path.name.removesuffix(".npy")] = np.load(path).tobytes()
    store = LmdbRecordStore(path=directory / "lmdb", readonly=True)
    store.open()
    mapped = {key: store.get(key).data.tobytes() for key in list(store.keys())}
    store.close()
    logged = [(record.metadata["path"], record.data) for _, record in read_log(directory / "all.log")]
    for found in (arrays, mapped, dict(logged)):
        assert {f"{n:04d}" for n in range(expected)} <= found.keys()
        assert all(data == content(int(name)) for name, data in found.items())
    assert all(data == content(int(name)) for name, data in logged)
    return logged


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_at_random_moments(start, tmp_path, many_or_few):
    """After every kill -9 all that was committed is whole in every store; duplicates are in the log only."""
    (tmp_path / "in").mkdir()
    for number in range(FILES):
        (tmp_path / "in" / f"{number:04d}").write_bytes(content(number))
    chance = random.Random()
    kills, most = 0, many_or_few(100, 8)
    rounds = with_commits = 0
    before = -1
    while kills < most:
        child = start("archive")
        if chance.random() < 0.8:  # the others may die while they open
            assert child.stdout.readline() in ("at work\n", ""), child.communicate()[1]
        try:
            child.wait(chance.uniform(0.0, 1.0))
        except TimeoutExpired:
            child.kill()
            child.communicate()
            kills += 1
        else:
            assert child.returncode == 0, child.communicate()[1]
        safe = committed(tmp_path)
        assert safe >= before
        before = safe
        if safe:
            check(tmp_path, safe)
            with_commits += 1
        if safe == FILES:  # all done: another round, from the beginning, into stores that have everything
            (tmp_path / "state.json").unlink()
            before = -1
            rounds += 1
    last = start("archive")
    _, errors = last.communicate(timeout=100)
    assert last.returncode == 0, errors
    assert committed(tmp_path) == FILES
    logged = check(tmp_path, FILES)
    # A kill costs at most what came after the last checkpoint, once more: never the whole directory.
    assert len(logged) <= FILES * (kills + rounds + 1)
    assert with_commits
    assert not (tmp_path / "dead").exists()
    for leftover in (tmp_path / "npy").iterdir():
        assert leftover.suffix == ".npy" or leftover.name.startswith("."), leftover


def kept(path):
    """Return what an lmdb store holds, by key."""
    store = LmdbRecordStore(path=path, readonly=True)
    store.open()
    found = {key: store.get(key).data for key in list(store.keys())}
    store.close()
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when_exists", ["skip", "replace"])
def test_derived_records_are_there_once_after_kills(start, tmp_path, many_or_few, when_exists):
    """Parts of records are in a store with keys exactly once after any kills, and batches hold all of them."""
    (tmp_path / "in").mkdir()
    halves = []
    for number in range(400):
        data = content(number)
        (tmp_path / "in" / f"{number:04d}").write_bytes(data)
        halves += [data[: len(data) // 2], data[len(data) // 2 :]]
    chance = random.Random()
    for _ in range(many_or_few(30, 4)):
        child = start("derive", when_exists)
        assert child.stdout.readline() in ("at work\n", ""), child.communicate()[1]
        try:
            child.wait(chance.uniform(0.0, 0.3))
        except TimeoutExpired:
            child.kill()
        child.communicate()
    last = start("derive", when_exists)
    _, errors = last.communicate(timeout=100)
    assert last.returncode == 0, errors
    parts = kept(tmp_path / "parts")
    assert sorted(parts.values()) == sorted(halves)
    batches = b"".join(kept(tmp_path / "batches").values())
    assert [half for half in halves if half not in batches] == []
