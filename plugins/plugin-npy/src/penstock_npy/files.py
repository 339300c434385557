"""Files that appear complete under their name, and are overwritten only on request."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import attrs

from penstock.processes import is_alive
from penstock_npy.durable import Unsynced
from penstock_npy.pair_lock import locked

WhenExists = Literal["error", "number", "replace", "skip"]
Buffers = Sequence[bytes | memoryview]
BesideFile = tuple[Path, Buffers]
Note = Callable[[os.stat_result], None]
"""A function that notes that a file, whose status it receives, is about to get its name."""

_UNNAMED = getattr(os, "O_TMPFILE", 0)
_NO_UNNAMED_FILES = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.ENOSYS}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
_TEMPORARY = re.compile(r"\.penstock-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp\Z")


def _machine() -> str:
    # A process id is valid only on this machine and, in a container, in this namespace.
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = 0
    return hashlib.sha256(f"{socket.gethostname()}/{namespace}".encode()).hexdigest()[:8]


def _write_all(fd: int, buffers: Buffers) -> None:
    written = os.writev(fd, buffers) if hasattr(os, "writev") else 0
    if written == sum(map(len, buffers)):
        return
    rest = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
    while True:
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if not rest:
            return
        rest[0] = rest[0][written:]
        written = os.writev(fd, rest) if hasattr(os, "writev") else os.write(fd, rest[0])


@attrs.define
class FileWriter:
    """Write files at once or not at all, and make them durable together.

    A file is written without a name (Linux) and linked to its name when it is complete, so that `kill -9` leaves
    neither a torn nor a temporary file. If the file system has no unnamed files (NFS, not Linux), it is written as
    `.penstock-….tmp` in the same directory; those of dead processes are removed when the directory is first written
    to. `link` refuses an existing name, so two writers cannot overwrite each other. Where the file system
    has no links either (FAT), the name is looked up and then renamed to: a second writer that makes the same name in
    between is overwritten.

    Attributes:
        sync_each: True makes every file durable before `write` returns.
    """

    sync_each: bool = False
    _unsynced: Unsynced = attrs.field(factory=Unsynced, init=False)
    _ready: set[str] = attrs.field(factory=set, init=False)
    _unnamed: bool = attrs.field(default=bool(_UNNAMED), init=False)
    _machine: str = attrs.field(factory=_machine, init=False)

    def write(
        self,
        path: Path,
        buffers: Buffers,
        when_exists: WhenExists,
        *,
        beside: BesideFile | None = None,
        note: Note | None = None,
        lock: Path | None = None,
    ) -> bool:
        """Write one file, with its directories; return False if it exists and `when_exists` is "skip".

        Args:
            path: Its path.
            buffers: Its content.
            when_exists: The action if it exists.
            beside: A second file in the same directory, which belongs to it. Both are written before either gets its
                name, so that a full disk leaves neither; this one gets its name first, replacing an older one. Of two
                writers of one name, in any process, one names both its files before the other names any.
            note: Called when the file is complete and its name is free, before it gets the name; if it raises, the file
                gets no name.
            lock: The directory whose lock is held from then on until the file has its name.

        Raises:
            FileExistsError: it exists and `when_exists` is "error" or "number".
            OSError: it could not be written; nothing is left under its name, nor beside it.
        """
        name = os.fspath(path)
        directory = os.path.dirname(name) or "."
        if when_exists != "replace" and os.path.lexists(name):
            if when_exists == "skip":
                return False
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        files: list[tuple[str, Buffers, WhenExists]] = [(name, buffers, when_exists)]
        if beside is not None:
            files.insert(0, (os.fspath(beside[0]), beside[1], "replace"))
        try:
            self._make_ready(directory)
            self._place(directory, files, note, lock)
        except FileNotFoundError:
            # A directory was removed during the run: make it again, once.
            self._ready -= {directory, os.fspath(lock or directory)}
            self._make_ready(directory)
            self._place(directory, files, note, lock)
        except FileExistsError:
            if when_exists == "skip":
                return False
            raise
        for name, _, _ in files:
            self._unsynced.add(name, directory)
        if self.sync_each:
            self.sync()
        return True

    def write_together(
        self,
        files: Sequence[tuple[str, Buffers]],
        when_exists: WhenExists,
        *,
        note: Callable[[Mapping[int, os.stat_result]], None] | None,
        lock: Path | None,
    ) -> list[int]:
        """Write files with one lock and one note for all; return those that were not written.

        These have left nothing behind, and `write` raises their error: their name exists, there is no room, or their
        directory was removed.

        Args:
            files: The path and the content of each.
            when_exists: As for `write`.
            note: Called with the status of the complete ones, by their index in `files`, before any has its name; None
                if nothing is to be noted: then a name that exists is only found when a file would get it, and each
                file gets its name as soon as it is complete.
            lock: The directory whose lock is held from then on until all have their names.
        """
        if self.sync_each or not self._unnamed:
            return list(range(len(files)))
        if note is None and when_exists != "replace":
            return self._write_new(files)
        names = [name for name, _ in files]
        directories = [os.path.dirname(name) or "." for name in names]
        staged: dict[int, _Staged] = {}
        written: set[int] = set()
        try:
            seen: set[str] = set()
            for number, (name, directory, (_, buffers)) in enumerate(zip(names, directories, files, strict=True)):
                if name in seen or os.path.lexists(name):
                    continue
                seen.add(name)
                try:
                    self._make_ready(directory)
                    staged[number] = self._stage(directory, buffers, named=False)
                except OSError:
                    continue
            if lock is not None:
                self._make_ready(os.fspath(lock))
            with locked(os.fspath(lock)) if lock is not None else contextlib.nullcontext():
                free = staged
                if note is not None:
                    free = {number: one for number, one in staged.items() if not os.path.lexists(names[number])}
                    note({number: os.fstat(one.fd) for number, one in free.items()})
                for number, one in free.items():
                    try:
                        one.place(names[number], when_exists)
                    except OSError:
                        continue
                    written.add(number)
                    self._unsynced.add(names[number], directories[number])
        except OSError:
            pass  # of the lock or the note: `write` meets it again, for each file
        finally:
            for one in staged.values():
                one.discard()
        return [number for number in range(len(files)) if number not in written]

    def _write_new(self, files: Sequence[tuple[str, Buffers]]) -> list[int]:
        """Write files of which nothing is noted, one after another; return those that were not written."""
        left: list[int] = []
        for number, (name, buffers) in enumerate(files):
            directory = os.path.dirname(name) or "."
            try:
                if directory not in self._ready:
                    self._make_ready(directory)
                fd = os.open(directory, _UNNAMED | os.O_WRONLY, 0o666)
                try:
                    _write_all(fd, buffers)
                    _link(fd, name)
                finally:
                    os.close(fd)
            except OSError:
                left.append(number)
            else:
                self._unsynced.add(name, directory)
        return left

    def sync(self) -> None:
        """Return when all files written, and their names, are durable.

        Raises:
            FileNotFoundError: some that were written since the last sync are gone; so they are at each further call.
            OSError: they cannot be made durable; they are tried again by the next call.
        """
        self._unsynced.sync()

    def close(self) -> None:
        """Close the open files, any number of times; it may be used again."""
        self._unsynced.close()

    def must_last(self, path: Path) -> None:
        """Include a file that is written elsewhere in the next `sync`, with its name."""
        self._unsynced.add(os.fspath(path), os.fspath(path.parent))

    def forget(self, path: Path) -> None:
        """Note that a file was removed: its directory is made durable by the next `sync`."""
        self._unsynced.forget(os.fspath(path))

    def _make_ready(self, directory: str) -> None:
        if directory in self._ready:
            return
        missing = directory
        while missing and not os.path.isdir(missing):
            # A new directory is an entry of its parent, which must be durable too.
            above = os.path.dirname(missing)
            self._unsynced.add_directory(above or ".")
            missing = above
        if missing == directory:
            self._clean(directory)
        try:
            os.makedirs(directory, exist_ok=True)
        except FileExistsError:
            message = "is a file, but must be a directory"
            raise NotADirectoryError(errno.ENOTDIR, message, missing) from None
        self._unsynced.watch(directory)
        if len(self._ready) > 10_000:  # a bound for templates that make a directory for every record
            self._ready.clear()
        self._ready.add(directory)

    def _clean(self, directory: str) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                found = _TEMPORARY.match(entry.name)
                if found and found[1] == self._machine and not is_alive(int(found[2])):
                    with contextlib.suppress(OSError):  # a temporary file that cannot be removed does no harm
                        os.unlink(entry.path)

    def _place(
        self,
        directory: str,
        files: Sequence[tuple[str, Buffers, WhenExists]],
        note: Note | None,
        lock: Path | None,
    ) -> None:
        staged: list[_Staged] = []
        if note is not None and lock is not None:
            self._make_ready(os.fspath(lock))
        try:
            for name, buffers, when_exists in files:
                named = not self._unnamed or (when_exists == "replace" and os.path.lexists(name))
                staged.append(self._stage(directory, buffers, named=named))
            together = len(files) > 1 or note is not None
            with locked(os.fspath(lock or directory)) if together else contextlib.nullcontext():
                self._name(directory, files, staged, note)
        finally:
            for one in staged:
                one.discard()

    def _name(
        self,
        directory: str,
        files: Sequence[tuple[str, Buffers, WhenExists]],
        staged: list[_Staged],
        note: Note | None,
    ) -> None:
        """Link complete files to their names; of the files of one record, all or none."""
        for name, _, when_exists in files if len(files) > 1 or note is not None else ():
            if when_exists != "replace" and os.path.lexists(name):  # another writer was first: its pair stays
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        if note is not None:
            note(os.fstat(staged[-1].fd))
        for (name, buffers, when_exists), one in zip(files, tuple(staged), strict=True):
            try:
                one.place(name, when_exists)
            except OSError as error:
                if one.temporary is not None or (isinstance(error, FileExistsError) and when_exists != "replace"):
                    raise
                if error.errno not in _NO_LINKS | {errno.ENOENT, errno.EEXIST} or not os.path.isdir(directory):
                    raise
                # /proc is not mounted, links are forbidden, or the file to be replaced was just made.
                self._unnamed = self._unnamed and isinstance(error, FileExistsError)
                staged.append(self._stage(directory, buffers, named=True))
                if note is not None and (name, buffers, when_exists) is files[-1]:
                    note(os.fstat(staged[-1].fd))
                staged[-1].place(name, when_exists)

    def _stage(self, directory: str, buffers: Buffers, *, named: bool) -> _Staged:
        one = None
        if not named:
            try:
                one = _Staged(os.open(directory, _UNNAMED | os.O_WRONLY, 0o666), None)
            except OSError as error:
                if error.errno not in _NO_UNNAMED_FILES or not os.path.isdir(directory):
                    raise
                self._unnamed = False
        if one is None:
            temporary = os.path.join(directory, f".penstock-{self._machine}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
            one = _Staged(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), temporary)
        try:
            _write_all(one.fd, buffers)
        except BaseException:
            one.discard()
            raise
        return one


def _link(fd: int, name: str) -> None:
    """Give a file without a name this one. Raises FileExistsError, OSError."""
    # With a src_dir_fd, Python calls linkat, which follows the link to the file without a name.
    os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=fd, follow_symlinks=True)


@attrs.define
class _Staged:
    """A complete file that has no name yet, or a temporary one."""

    fd: int
    temporary: str | None

    def place(self, name: str, when_exists: WhenExists) -> None:
        if self.temporary is None:
            _link(self.fd, name)
        elif when_exists == "replace":
            os.replace(self.temporary, name)
        else:
            try:
                os.link(self.temporary, name)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if os.path.lexists(name):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
                os.rename(self.temporary, name)

    def discard(self) -> None:
        os.close(self.fd)
        if self.temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.temporary)
