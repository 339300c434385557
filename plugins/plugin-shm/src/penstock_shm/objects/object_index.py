"""The directory of an object store: its objects, their names, and their total size.

One rename adds an object and one unlink removes it: if the process dies in between, the object is complete or absent.
Names are symbolic links to objects; a dangling one is ignored.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path

import attrs

from penstock.processes import is_alive
from penstock_shm.directory import locked_directory, to_file_name

_STATE = struct.Struct("<QQ")
OBJECT, NAME, SUBSCRIBER, TEMPORARY = "o-", "n-", "s-", "t-"


@attrs.frozen
class ObjectIndex:
    """The directory at `path`. Every change is made under its lock, which the kernel releases when the holder dies."""

    path: Path

    def object_path(self, key: str) -> Path:
        """Return the path of the object with this id, whether it exists or not."""
        return self.path / (OBJECT + to_file_name(key))

    def name_path(self, name: str) -> Path:
        """Return the path of the symbolic link of this name."""
        return self.path / (NAME + to_file_name(name))

    def temporary_path(self) -> Path:
        """Return an unused path for a file being written; its name contains the process id."""
        return self.path / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"

    def find(self, key: str) -> str | None:
        """Return the id of the object with this id or name; None if there is none."""
        if not isinstance(key, str) or not key or "\0" in key:
            return None
        if os.path.lexists(self.object_path(key)):
            return key
        try:
            found = os.readlink(self.name_path(key)).removeprefix(OBJECT)
        except OSError:
            return None
        return found if os.path.lexists(self.object_path(found)) else None

    def ids(self) -> list[str]:
        """Return the ids of all objects, in the order in which they were put."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(n.removeprefix(OBJECT) for n in os.listdir(self.path) if n.startswith(OBJECT))
        return []

    def files(self) -> dict[str, int]:
        """Return the ids of all objects with their inode numbers, which differ after a replacement."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path) as entries:
            return {e.name.removeprefix(OBJECT): e.inode() for e in entries if e.name.startswith(OBJECT)}
        return {}

    def subscribers(self) -> list[str]:
        """Return the names of the subscribers' sockets."""
        with contextlib.suppress(FileNotFoundError):
            return [n for n in os.listdir(self.path) if n.startswith(SUBSCRIBER)]
        return []

    @contextlib.contextmanager
    def changing(self, *, make: bool = True) -> Iterator[None]:
        """Hold the lock of the directory. Raises FileNotFoundError if it is missing and `make` is False."""
        with locked_directory(self.path, make=make):
            yield

    # -- with the lock held ------------------------------------------------------------------------------------------

    def next_id(self) -> str:
        """Return an id that no object has had."""
        size, number = self._state()
        self._set_state(size, number + 1)
        return f"{number:016x}-{secrets.token_hex(4)}"

    def begin_session(self) -> None:
        """Mark the present objects as left by earlier users: no process had the store open until now."""
        (self.path / ".session").write_text(str(self._state()[1]))

    def was_left(self, key: str) -> bool:
        """Return whether the object of this id is older than the session of the present users."""
        try:
            return int(key[:16], 16) < int((self.path / ".session").read_text())
        except (FileNotFoundError, ValueError):
            return False

    def commit(self, temporary: Path, key: str, name: str) -> None:
        """Make the file the object with this id, and with this name unless it is ""."""
        if name:
            link = self.name_path(name)
            link.unlink(missing_ok=True)  # the link is dangling, or the caller replaces it
            link.symlink_to(OBJECT + key)
        size = temporary.lstat().st_size
        path = self.object_path(key)
        with contextlib.suppress(FileNotFoundError):
            size -= path.lstat().st_size
            self._forget_spilled(path)
        os.rename(temporary, path)
        self.add_size(size)

    def remove(self, key: str, name: str) -> None:
        """Remove the object. Raises FileNotFoundError if it does not exist."""
        path = self.object_path(key)
        size = path.lstat().st_size
        spilled = os.readlink(path) if path.is_symlink() else None
        path.unlink()
        if spilled:
            Path(spilled).unlink(missing_ok=True)
        if name:
            self.name_path(name).unlink(missing_ok=True)
        self.add_size(-size)

    def size_bytes(self) -> int:
        """Return the counted size of all objects."""
        return self._state()[0]

    def count_again(self) -> int:
        """Recount the size of all objects, remove the unfinished files of dead processes, and return the size."""
        total = 0
        for entry in os.scandir(self.path):
            if entry.name.startswith(TEMPORARY) and not _lives(entry.name):
                os.unlink(entry.path)
            elif entry.name.startswith(OBJECT):
                total += entry.stat(follow_symlinks=False).st_size
        self._set_state(total, self._state()[1])
        return total

    def add_size(self, size: int) -> None:
        """Add `size` bytes, which may be negative, to the counted size."""
        total, number = self._state()
        self._set_state(max(0, total + size), number)

    def _forget_spilled(self, path: Path) -> None:
        if path.is_symlink():
            Path(os.readlink(path)).unlink(missing_ok=True)

    def _state(self) -> tuple[int, int]:
        try:
            content = (self.path / ".state").read_bytes()
        except FileNotFoundError:
            content = b""
        if len(content) == _STATE.size:
            size, number = _STATE.unpack(content)
            return size, number
        last = max((int(k[:16], 16) for k in self.ids()), default=-1)
        return 0, last + 1

    def _set_state(self, size: int, number: int) -> None:
        descriptor = os.open(self.path / ".state", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, _STATE.pack(size, number), 0)
        finally:
            os.close(descriptor)


def _lives(name: str) -> bool:
    pid = name.split("-")[1]
    return pid.isdigit() and is_alive(int(pid))
