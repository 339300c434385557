"""The source npy-files, while files come: what it gives, and what it leaves alone until it is whole."""

from __future__ import annotations

import io
import os
import threading

import numpy
import pytest

from penstock.errors import SourceError

from .replayed import take


@pytest.mark.parametrize("poll_s", [None, 0.02])
def test_following(opened, tmp_path, poll_s):
    """Files, directories that are moved there, and added lines come as they are made; each once."""
    (tmp_path / "in").mkdir()
    source = opened(tmp_path / "in", follow=True, poll_s=poll_s)
    numpy.save(tmp_path / "in/a.npy", numpy.zeros(1))
    assert [record.metadata["path"] for record in take(source, 1)] == ["a.npy"]
    (tmp_path / "b").mkdir()
    numpy.save(tmp_path / "b/x.npy", numpy.zeros(1))
    (tmp_path / "b").rename(tmp_path / "in/b")
    assert [record.metadata["path"] for record in take(source, 1)] == ["b/x.npy"]
    with (tmp_path / "in/c.jsonl").open("a") as file:
        for n in range(3):
            file.write(f"{n}\n")
            file.flush()
            assert [(record.seq, record.data) for record in take(source, 1)] == [(n, n)]
    assert source.read(10, 0.1) in ((), [])


@pytest.mark.parametrize("follow", [False, True])
def test_a_file_that_is_still_written_is_not_given(opened, tmp_path, follow):
    """A file under its final name that is not whole waits, its neighbours do not; when it is whole, it comes."""
    file = io.BytesIO()
    numpy.save(file, numpy.arange(1000))
    content = file.getvalue()
    with (tmp_path / "a.npy").open("wb") as opened_file:
        opened_file.write(content[:300])
        opened_file.flush()
        numpy.save(tmp_path / "b.npy", numpy.zeros(1))
        source = opened(tmp_path, follow=follow, settle_s=1000.0)
        assert [record.metadata["path"] for record in take(source, 1)] == ["b.npy"]
        assert not source.read(1, 0.1)
        opened_file.write(content[300:])
    (record,) = take(source, 1)
    assert record.metadata["path"] == "a.npy"
    assert (record.data == numpy.arange(1000)).all()
    assert not source.take_refused()


def test_min_age_leaves_alone_what_is_preallocated(opened, tmp_path):
    """With `min_age_s`, a file that looks whole from its start waits until nobody has changed it for so long."""
    numpy.lib.format.open_memmap(tmp_path / "a.npy", "w+", "u1", (100,)).flush()
    source = opened(tmp_path, min_age_s=1000.0)
    assert not source.read(1, 0.1)
    os.utime(tmp_path / "a.npy", (0, 0))
    assert len(take(source, 1)) == 1


def test_a_directory_that_cannot_be_watched(opened, tmp_path, monkeypatch):
    """When the system cannot report changes, the error says so and how to list the directory instead."""

    def watch(*_arguments, **_settings):
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr("watchfiles.watch", watch)
    source = opened(tmp_path, follow=True)

    def read_on():
        while True:
            source.read(1, 0.1)

    with pytest.raises(SourceError, match=r"watch limit reached; with poll_s"):
        read_on()


def test_a_file_that_is_replaced_does_not_come_again(opened, tmp_path):
    """A file that was read is not read again when it is rewritten under its name; a new file is."""
    source = opened(tmp_path, follow=True, poll_s=0.02)
    numpy.save(tmp_path / "a.npy", numpy.zeros(1))
    take(source, 1)
    numpy.save(tmp_path / "a.npy", numpy.ones(2))
    numpy.save(tmp_path / "b.npy", numpy.ones(3))
    assert [record.metadata["path"] for record in take(source, 1)] == ["b.npy"]
    assert not source.read(1, 0.1)


def test_waking(opened, tmp_path):
    """`wake` ends a read that waits for files."""
    source = opened(tmp_path, follow=True)
    timer = threading.Timer(0.1, source.wake)
    timer.start()
    assert not source.read(1, 60.0)
    timer.join()
