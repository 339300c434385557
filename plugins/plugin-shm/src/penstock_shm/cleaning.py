"""What runs that died, or arrays and stores that nobody destroyed, have left: listed and removed.

The memory of channels needs none of this: it has no name, and the kernel frees it. What can be left is a channel's
socket, an array, or an object store, in the user's directory in /dev/shm.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

import attrs

from penstock_shm.object_index import ObjectIndex
from penstock_shm.place import KINDS, locked_directory, root, tidy
from penstock_shm.rendezvous import knock


@attrs.frozen
class Leftover:
    """Something in the shared directory that no living process uses.

    Attributes:
        kind: "channel", "array" or "objects".
        name: The file name that the channel's, array's or store's name was turned into.
        path: Where it lies.
        size_bytes: What it takes.
    """

    kind: str
    name: str
    path: Path
    size_bytes: int


def leftovers(kinds: Iterable[str] = KINDS) -> list[Leftover]:
    """Return what no living process has open, of these kinds. An array or store may have been left on purpose."""
    return [left for kind in kinds for left in _of_kind(kind, remove=False)]


def clean(kinds: Iterable[str] = KINDS) -> list[Leftover]:
    """Remove what `leftovers` returns, and return what was removed. What a living process uses is never touched."""
    removed = [left for kind in kinds for left in _of_kind(kind, remove=True)]
    for kind in KINDS:
        tidy(root() / kind)
    tidy(root())
    return removed


def _of_kind(kind: str, *, remove: bool) -> list[Leftover]:
    directory = root() / kind
    if not directory.is_dir():
        return []
    check = {"channel": _channel, "array": _array, "objects": _objects}[kind]
    found = []
    for path in sorted(directory.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # somebody removed it meanwhile
            size = _size(path)
            if check(path, remove=remove):
                found.append(Leftover(kind, path.name, path, size))
    return found


def _channel(path: Path, *, remove: bool) -> bool:
    """Whether no process listens at any of the channel's sockets."""
    if not path.is_dir():
        return False
    with locked_directory(path) as directory:
        alive = False
        for name in os.listdir(directory):
            if _answers(directory, name, remove=remove):
                alive = True
        if remove and not alive:
            path.rmdir()
        return not alive


def _answers(directory: int, name: str, *, remove: bool) -> bool:
    if not remove:
        return _is_bound(directory, name)
    connection = knock(directory, name)
    if connection is None:
        return False
    connection.close()
    return True


def _is_bound(directory: int, name: str) -> bool:
    """Whether a process has a socket of this name open; told by the kernel's list, without knocking."""
    inode = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISSOCK(inode.st_mode):
        return False
    return any(line.endswith(f"/{name}") for line in Path("/proc/net/unix").read_text().splitlines())


def _array(path: Path, *, remove: bool) -> bool:
    """Whether nobody is connected to the array; a temporary file of a dead maker counts too."""
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if remove:
            path.unlink()
        return True


def _objects(path: Path, *, remove: bool) -> bool:
    """Whether nobody has the object store open."""
    if not path.is_dir():
        return False
    index = ObjectIndex(path)
    with index.changing():
        try:
            with open(path / ".users", "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except FileNotFoundError:
            pass  # its maker died before anything was in it
        if remove:
            for key in index.ids():
                index.remove(key, "")
            shutil.rmtree(path)
        return True


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(p.lstat().st_size for p in path.iterdir() if not stat.S_ISSOCK(p.lstat().st_mode))
    return path.lstat().st_size
