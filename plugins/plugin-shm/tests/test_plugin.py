"""The plugin as a whole: listing is light, the README runs, nothing is left of channels."""

from __future__ import annotations

import errno
import os
import re
import resource
import secrets
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import penstock_shm
from penstock.errors import CannotConnectToStoreError
from penstock_shm import (
    SharedMemoryArray,
    ShmObjectStore,
    ShmSource,
    ShmStore,
    clean,
    hooks,
    leftovers,
    listing,
    rendezvous,
)
from penstock_shm.directory import VARIABLE, root

README = Path(__file__).parent.parent / "README.md"


def test_listing_is_light():
    """Listing the plugin's components imports neither numpy nor any of its own modules except hooks."""
    code = (
        "import sys; from penstock_shm import hooks; hooks.penstock_sources(); hooks.penstock_stores();"
        "print([m for m in sys.modules if m == 'numpy' or m.startswith('penstock_shm.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "['penstock_shm.hooks']\n", done.stderr


def test_what_is_offered_is_there():
    """Each component that the hooks offer can be imported."""
    for component in [*hooks.penstock_sources(), *hooks.penstock_stores()]:
        module, _, name = component.path.partition(":")
        assert getattr(import_module(module), name)
    for name in penstock_shm.__all__:
        assert getattr(penstock_shm, name)
    with pytest.raises(AttributeError):
        _ = penstock_shm.nothing


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
def test_readme(block):
    """Every example of the README runs."""
    exec(compile(block, str(README), "exec"), {})


def test_clean_removes_sockets_of_the_dead_only(start):
    """`leftovers` lists channels without living processes, and `clean` removes them; a living channel continues."""
    peers = [start("consume", name) for name in ("dead", "alive")]
    for peer in peers:
        assert peer.hear() == "open"
    assert leftovers() == []
    peers[0].kill()
    assert [(left.kind, left.name) for left in leftovers()] == [("channel", "dead")]
    assert [left.name for left in clean()] == ["dead"]
    assert leftovers() == []
    start("produce", "alive", 3, 10).end()
    assert peers[1].hear() == "ended 3 0 0"


def test_directory_of_someone_else(tmp_path, monkeypatch):
    """A shared directory that is not one, or is another user's, is rejected by name."""
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for wrong in ("file", "link"):
        with monkeypatch.context() as patch:
            patch.setenv(VARIABLE, str(tmp_path / wrong))
            with pytest.raises(CannotConnectToStoreError, match=wrong):
                root()
            for end in (ShmSource("x"), ShmStore("x")):
                with pytest.raises(CannotConnectToStoreError):
                    end.open()
                end.close()


def test_other_systems_are_refused(monkeypatch):
    """On a system other than Linux, opening raises an error that names the alternative."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        with pytest.raises(CannotConnectToStoreError, match="zenoh"):
            ShmStore("x").open()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_directory_that_cannot_be_used(number, monkeypatch):
    """If the directory is full, read-only or forbidden, opening raises an error with a remedy, and leaves nothing."""
    opened = (ShmSource("x").open, ShmStore("x").open, lambda: SharedMemoryArray.create_array("x", np.zeros(3)))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(rendezvous, "new_socket", refuse)
        patch.setattr(secrets, "token_hex", refuse)
        for each in opened:
            with pytest.raises(CannotConnectToStoreError, match=rf"'x': cannot use .*{VARIABLE}"):
                each()
    assert listing() == []


def fill_holes() -> list[int]:
    """Open a descriptor for each unused number below the highest one in use; return them."""
    highest, opened = max(map(int, os.listdir("/proc/self/fd"))), []
    while (descriptor := os.open("/dev/null", os.O_RDONLY)) < highest:
        opened.append(descriptor)
    os.close(descriptor)
    return opened


def test_too_many_open_files():
    """A process without free descriptors gets an error from every open, and leaks none."""
    SharedMemoryArray.create_array("x", np.zeros(3)).disconnect()
    source, store, array, objects = ShmSource("x"), ShmStore("x"), SharedMemoryArray("x"), ShmObjectStore("x")
    for take, let_go in (
        (source.open, source.close),
        (store.open, store.close),
        (array.connect, array.disconnect),
        (objects.open, objects.destroy),
    ):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        holes = fill_holes()  # a limit counts numbers, and tests before this one may have left gaps between them
        before = len(os.listdir("/proc/self/fd"))
        said = []
        for limit in range(before - 1, before + 40):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
            try:
                take()
                break
            except CannotConnectToStoreError as error:
                said.append(str(error))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert len(os.listdir("/proc/self/fd")) == before
        assert said
        assert all("ulimit -n" in each for each in said)
        let_go()
        for descriptor in holes:
            os.close(descriptor)


@pytest.mark.parametrize(
    ("mode", "accepted"), [(0o777, False), (0o757, False), (0o1777, True), (0o755, True), (0o700, True)]
)
def test_a_directory_that_others_may_change_is_refused(tmp_path, monkeypatch, mode, accepted):
    """PENSTOCK_SHM_DIR may not be writable by others, unless it is sticky; the error names the command to run."""
    from penstock.errors import CannotConnectToStoreError
    from penstock_shm.directory import root

    directory = tmp_path / "shm"
    directory.mkdir()
    directory.chmod(mode)
    with monkeypatch.context() as patch:  # what looks for leaks looks there, too
        patch.setenv("PENSTOCK_SHM_DIR", str(directory))
        if accepted:
            assert root() == directory
        else:
            with pytest.raises(CannotConnectToStoreError, match=f"chmod 700 {directory}"):
                root()
