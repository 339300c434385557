"""The source npy-files keeps every promise of the contract."""

from __future__ import annotations

import json

import numpy
import pytest

from penstock.record import Record
from penstock.testing import SourceContract
from penstock_npy import JsonStore, NpyFilesSource, NpyStackStore, NpyStore


def write(store, **changes):
    """Write an archive of ten records."""
    store.open()
    for n in range(10):
        record = Record(numpy.full((2, 3), n, "u2"), channel="camera", seq=n, time_ns=n + 7, coords={"z": n})
        store.write([record.replace(**changes)])
    store.close()


class TestForeignFiles(SourceContract):
    """Files of all kinds that somebody else wrote."""

    @pytest.fixture(autouse=True)
    def files(self, tmp_path):
        directory = tmp_path / "in"
        directory.mkdir()
        for n in range(6):
            numpy.save(directory / f"a{n}.npy", numpy.arange(n + 1))
        numpy.savez(directory / "b.npz", x=numpy.arange(3), y=numpy.zeros((2, 2)))
        numpy.savez_compressed(directory / "c.npz", x=numpy.arange(3))
        (directory / "d.json").write_text('{"a": 1}')
        (directory / "e.json").write_text("[1, 2]")

    def make_source(self, tmp_path):
        return NpyFilesSource(path=tmp_path / "in")

    def make_unopenable(self, tmp_path):
        return NpyFilesSource(path=tmp_path / "nothing")


class TestForeignFilesRemembered(TestForeignFiles):
    remembers_commit = True

    def make_source(self, tmp_path):
        return NpyFilesSource(path=tmp_path / "in", state=tmp_path / "state.jsonl")

    def make_unopenable(self, tmp_path):
        (tmp_path / "damaged").write_text("{}")
        return NpyFilesSource(path=tmp_path / "in", state=tmp_path / "damaged")


class TestTemplate(SourceContract):
    """An archive of the npy store, found by the template that made it."""

    @pytest.fixture(autouse=True)
    def files(self, tmp_path):
        write(NpyStore(path=self.path(tmp_path)))

    def path(self, tmp_path):
        return str(tmp_path / "a/{{ channel }}/{{ '%06d' % seq }}.npy")

    def make_source(self, tmp_path):
        return NpyFilesSource(path=self.path(tmp_path))


class TestLines(SourceContract):
    """Two files of lines, each a channel of its own."""

    remembers_commit = True

    @pytest.fixture(autouse=True)
    def files(self, tmp_path):
        (tmp_path / "in").mkdir()
        for name in "ab":
            (tmp_path / f"in/{name}.jsonl").write_text("".join(f"{json.dumps({name: n})}\n" for n in range(5)))

    def make_source(self, tmp_path):
        return NpyFilesSource(path=tmp_path / "in", state=tmp_path / "state.jsonl")


class TestLinesOfTheStore(SourceContract):
    """The lines of a json store, with what its index keeps."""

    @pytest.fixture(autouse=True)
    def files(self, tmp_path):
        write(JsonStore(path="{{ channel }}.jsonl", root=tmp_path / "a", lines=True), data={"a": 1})

    def make_source(self, tmp_path):
        return NpyFilesSource(path=tmp_path / "a")


class TestStack(SourceContract):
    """The frames of an npy-stack."""

    remembers_commit = True

    @pytest.fixture(autouse=True)
    def files(self, tmp_path):
        write(NpyStackStore(path="{{ channel }}.npy", root=tmp_path / "a"))

    def make_source(self, tmp_path):
        return NpyFilesSource(path=tmp_path / "a", state=tmp_path / "state")


class TestFollowed(SourceContract):
    """A directory that grows, whose changes the system reports."""

    ends = False
    most_unread = None  # what waits are files; watchfiles holds what changed within a tenth of a second
    poll_s = None

    def make_source(self, tmp_path):
        return NpyFilesSource(path=tmp_path / "*.npy", follow=True, poll_s=self.poll_s)

    def feed(self, tmp_path):
        for n in range(self.count):
            numpy.save(tmp_path / f"{n:05}.npy", numpy.arange(n % 7))


class TestFollowedByListing(TestFollowed):
    poll_s = 0.05
