"""List the user's shared directory, and remove entries that no living process uses.

The memory of channels needs no cleaning: it has no name, and the kernel frees it. Leftovers can be a channel's
socket, an array, or an object store.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterable
from pathlib import Path

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import CannotConnectToStoreError, ConfigError
from penstock.short_text import short
from penstock_shm.directory import KINDS, UNFINISHED, locked_directory, root, tidy, to_name
from penstock_shm.objects.object_index import ObjectIndex
from penstock_shm.rendezvous import connect, pid_of

_SWEEP_EVERY_S = 60.0
_swept: dict[Path, float] = {}


@checks_arguments
@attrs.frozen
class Shared:
    """An entry in the shared directory.

    Attributes:
        kind: "channel", "array" or "objects".
        name: The channel's, array's or store's name; of very long ones, a part of it.
        path: Its path.
        size_bytes: Its size; the memory of channels is not in the directory, and not counted.
        in_use: Whether a living process has it open.
        processes: Ids of the living processes with an endpoint in it, if it is a channel.
    """

    kind: str
    name: str
    path: Path
    size_bytes: int
    in_use: bool
    processes: tuple[int, ...] = ()


def listing(kinds: Iterable[str] = KINDS) -> list[Shared]:
    """Return all entries of these kinds, in use or not. Raises ConfigError for another kind."""
    found = [shared for kind in _checked(kinds) for shared in _of_kind(kind, remove=False)]
    tidy(root())
    return found


def leftovers(kinds: Iterable[str] = KINDS) -> list[Shared]:
    """Return the entries of these kinds that no living process has open. Some may have been kept on purpose.

    Raises ConfigError for another kind.
    """
    return [shared for shared in listing(kinds) if not shared.in_use]


def clean(kinds: Iterable[str] = KINDS) -> list[Shared]:
    """Remove the entries that `leftovers` returns, and return them. Entries in use are never touched.

    Raises ConfigError for another kind.
    """
    removed = [shared for kind in _checked(kinds) for shared in _of_kind(kind, remove=True) if not shared.in_use]
    with contextlib.suppress(FileNotFoundError), locked_directory(root() / "array", make=False):
        tidy(root() / "array")
    for kind in KINDS:
        if kind != "array":
            tidy(root() / kind)
    tidy(root())
    return removed


def _checked(kinds: Iterable[str]) -> tuple[str, ...]:
    found = tuple(kinds) if isinstance(kinds, Iterable) and not isinstance(kinds, str) else None
    if found is None or not all(kind in KINDS for kind in found):
        raise ConfigError(f"kinds={short(kinds)}: must be several of {', '.join(KINDS)}, as in ('array',)")
    return found


def sweep() -> None:
    """Remove the channels of dead runs, and arrays whose creators died while writing them.

    Every `open` of a channel calls it; it runs at most once a minute. Complete arrays and object stores are not
    removed, since they may have been kept on purpose.
    """
    directory, now_s = root(), time.monotonic()
    if now_s - _swept.get(directory, now_s - _SWEEP_EVERY_S) < _SWEEP_EVERY_S:
        return
    _swept[directory] = now_s
    with contextlib.suppress(OSError):  # a failed clean-up must not fail the caller
        _of_kind("channel", remove=True)
        _of_kind("array", remove=True, prefix=UNFINISHED)


def _of_kind(kind: str, *, remove: bool, prefix: str = "") -> list[Shared]:
    directory = root() / kind
    check = {"channel": _channel, "array": _array, "objects": _objects}[kind]
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(path for path in directory.iterdir() if path.name.startswith(prefix)):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                size = _size(path)
                try:
                    in_use, processes = check(path, remove=remove)
                except CannotConnectToStoreError:  # its lock is held, so it is in use
                    in_use, processes = True, ()
                found.append(Shared(kind, to_name(path.name), path, size, in_use, processes))
    return found


def _channel(path: Path, *, remove: bool) -> tuple[bool, tuple[int, ...]]:
    """Return whether a process listens at any of the channel's sockets, and the ids of these processes."""
    if not path.is_dir():
        return True, ()  # not created by this plugin
    with locked_directory(path, timeout_s=0.0, make=False) as directory:
        bound = _bound()
        living = {pid_of(n) for n in os.listdir(directory) if n in bound or _answers(directory, n, remove=remove)}
        if remove and not living:
            path.rmdir()
        return bool(living), tuple(sorted(living))


def _bound() -> set[str]:
    """Return the names of the sockets that the kernel lists; those of other network namespaces are missing."""
    with contextlib.suppress(OSError):
        return {line.rpartition("/")[2] for line in Path("/proc/net/unix").read_text().splitlines() if "/" in line}
    return set()


def _answers(directory: int, name: str, *, remove: bool) -> bool:
    """Return whether a process listens at a socket, found by connecting; its owner sees a peer that leaves at once."""
    if not stat.S_ISSOCK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        return False
    connection = connect(directory, name, remove=remove)
    if connection is None:
        return False
    connection.close()
    return True


def _array(path: Path, *, remove: bool) -> tuple[bool, tuple[int, ...]]:
    """Return whether a process is connected to the array."""
    with locked_directory(path.parent, timeout_s=0.0, make=False), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True, ()
        if remove:
            path.unlink()
        return False, ()


def _objects(path: Path, *, remove: bool) -> tuple[bool, tuple[int, ...]]:
    """Return whether a process has the object store open."""
    if not path.is_dir():
        return True, ()  # not created by this plugin
    index = ObjectIndex(path)
    with locked_directory(path, timeout_s=0.0, make=False):
        try:
            with open(path / ".users", "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True, ()
        except FileNotFoundError:
            pass  # its creator died before it put an object
        if remove:
            for key in index.ids():
                index.remove(key, "")
            shutil.rmtree(path)
        return False, ()


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(p.lstat().st_size for p in path.iterdir() if not stat.S_ISSOCK(p.lstat().st_mode))
    return path.lstat().st_size
