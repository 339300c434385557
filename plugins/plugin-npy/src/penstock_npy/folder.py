"""A directory of files, one for each record: their paths and their keys."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import attrs

from penstock.errors import CannotConnectToStoreError, ObjectNotFoundError, RecordExistsError, StoreError, TemplateError
from penstock.record import Record
from penstock.store import Key
from penstock.templates import Template
from penstock_npy.checksums import Checksums
from penstock_npy.files import Buffers, FileWriter, WhenExists
from penstock_npy.index import DIRECTORY, Index, file_id
from penstock_npy.numbering import Numbering
from penstock_npy.reserve import Reserve
from penstock_npy.writing import name_of

SIDECAR = ".json"
"""The suffix that the name of a file adds to that of the file that it describes."""


_TOGETHER = 64
"""The number of files that are written at a time, with a descriptor each."""


class Item(NamedTuple):
    """A file to be written: its record, its path, its content, and its entry in the index."""

    record: Record
    path: str
    buffers: Buffers
    entry: str | None


@attrs.define
class Folder:
    """The state of an open store of files: its template, its writer, and its rules.

    The key of a record is its path below the root, with "/".

    Attributes:
        where: The beginning of messages: "NpyStore 'archive/{{ seq }}.npy'".
        suffix: The end of the name of each file.
        when_exists: The action when a name exists.
        writer: The object that writes the files.
        template: The template of a record's path.
        index: The fields of each record.
        reserve: The room that stays free.
        checksums: The writer of checksums, or None.
        root: The directory that contains all files.
    """

    where: str
    suffix: str
    when_exists: WhenExists
    writer: FileWriter
    template: Template
    index: Index
    reserve: Reserve
    checksums: Checksums | None = None
    numbering: Numbering = attrs.field(factory=Numbering)
    root: Path = attrs.field(init=False)
    _above: str = attrs.field(init=False)

    @classmethod
    def open(
        cls,
        where: str,
        path: str,
        root: Path | None,
        suffix: str,
        when_exists: WhenExists,
        *,
        sync_each: bool = False,
        reserve_bytes: int = 0,
        checksums: str = "none",
    ) -> Folder:
        """Compile the template and see that its root can be written to.

        Raises:
            TemplateError: the template cannot be compiled.
            CannotConnectToStoreError: the root is not a directory, or may not be written to.
        """
        template = Template(path, root=root)
        if not path.endswith(suffix):
            raise CannotConnectToStoreError(
                f"{where}: the name of the files must end in {suffix!r}; add it to the path"
            )
        above = Path(template.root)
        while not os.path.exists(above) and above != above.parent:  # one that may not be looked into counts as absent
            above = above.parent
        if not above.is_dir():
            raise CannotConnectToStoreError(f"{where}: {above} is a file; use a root that is a directory")
        effective = os.access in os.supports_effective_ids
        if not os.access(above, os.W_OK | os.X_OK, effective_ids=effective):
            raise CannotConnectToStoreError(
                f"{where}: {above} may not be written to; change its permissions or the path"
            )
        index = Index(Path(template.root), path)
        reserve = Reserve(where, Path(template.root), reserve_bytes)
        sums = None if checksums == "none" else Checksums()
        return cls(where, suffix, when_exists, FileWriter(sync_each), template, index, reserve, sums)

    def __attrs_post_init__(self) -> None:
        self.root = Path(self.template.root)
        self._above = self.root.as_posix().rstrip("/") + "/"

    def key_at(self, path: str) -> Key:
        """Return the key of a path below the root."""
        return (path if os.sep == "/" else path.replace(os.sep, "/")).removeprefix(self._above)

    def path_of(self, record: Record) -> Path:
        """Return the path of a record. Raises StoreError, not retryable."""
        return Path(self.path_text(record))

    def path_text(self, record: Record, *, is_new: bool = False) -> str:
        """Return the path of a record as text. Raises as `path_of`; `is_new` as for `Template.path_text`."""
        try:
            return self.template.path_text(record, is_new=is_new)
        except TemplateError as error:
            raise StoreError(f"{self.where}: record {name_of(record)}: {error}", retryable=False) from error

    def key_of(self, record: Record) -> Key:
        """Return the path below the root, with "/"."""
        return self.key_at(self.path_text(record))

    def exists_error(self, record: Record, path: Path) -> RecordExistsError:
        """Return the error for an existing name, with the remedy."""
        known = {"seq", "time_ns", "time"} & set(self.template.variables)
        advice = "when_exists='skip' or 'replace' if it comes again after a restart"
        if not known:
            advice = f"put {{{{ channel }}}} and {{{{ '%06d' % seq }}}} into the path, or {advice}"
        return RecordExistsError(f"{self.where}: record {name_of(record)}: {path} exists already; {advice}")

    def write(
        self, record: Record, path: Path, buffers: Buffers, *, said: bytes | None = None, entry: str | None = None
    ) -> None:
        """Write the file of a record, or skip it.

        Args:
            record: The record.
            path: Its path, if that is free.
            buffers: The content of the file.
            said: The content of the file beside it, if there is to be one.
            entry: Its entry in the index, if it is to have one; see `penstock_npy.index`.

        Raises:
            RecordExistsError: the name is taken.
            OSError: the file cannot be written.
        """
        wanted = path
        while True:
            try:
                self._write(record, path, buffers, said, entry)
                return
            except FileExistsError:
                if self.when_exists != "number":
                    raise self.exists_error(record, path) from None
                path = self.numbering.free(wanted)

    def _write(self, record: Record, path: Path, buffers: Buffers, said: bytes | None, entry: str | None) -> None:
        beside = None if said is None else (path.with_name(path.name + SIDECAR), [said])
        self.reserve.take(sum(len(buffer) for buffer in buffers))
        if entry is None and self.checksums is None:
            self.writer.write(path, buffers, self.when_exists, beside=beside)
            return
        key = self.key_at(os.fspath(path))

        def note(status: os.stat_result) -> None:
            if entry is not None:
                self.index.add(key, file_id(status), record.channel, entry)
                self.writer.must_last(self.index.path_of(record.channel))
            if self.checksums is not None:
                self.writer.must_last(self.checksums.add(path, buffers))

        lock = self.index.directory if entry is not None else None
        self.writer.write(path, buffers, self.when_exists, beside=beside, note=note, lock=lock)

    def write_together(self, items: Sequence[Item]) -> list[Item]:
        """Write files of records, many at a time; return those for which `write` must be called."""
        left: list[Item] = []
        for first in range(0, len(items), _TOGETHER):
            some = items[first : first + _TOGETHER]
            left += [some[number] for number in self._write_some(some)]
        return left

    def _write_some(self, items: Sequence[Item]) -> Iterable[int]:
        if self.reserve.reserve_bytes:
            try:
                self.reserve.take(sum(len(buffer) for item in items for buffer in item.buffers))
            except StoreError:
                return range(len(items))  # some may have room
        files = [(item.path, item.buffers) for item in items]
        is_indexed = any(item.entry is not None for item in items)
        if not is_indexed and self.checksums is None:
            return self.writer.write_together(files, self.when_exists, note=None, lock=None)

        def note(found: Mapping[int, os.stat_result]) -> None:
            if self.checksums is not None:
                for number in found:
                    self.writer.must_last(self.checksums.add(Path(items[number].path), items[number].buffers))
            indexed = [(items[number], status) for number, status in found.items() if items[number].entry is not None]
            lines = [
                (self.key_at(item.path), file_id(status), item.record.channel, item.entry or "")
                for item, status in indexed
            ]
            for file in self.index.add_all(lines):
                self.writer.must_last(file)

        lock = self.index.directory if is_indexed else None
        return self.writer.write_together(files, self.when_exists, note=note, lock=lock)

    def file_at(self, key: object) -> Path | None:
        """Return the file of a key, or None if there is none or the key leads out of the root."""
        if not isinstance(key, str) or not key.endswith(self.suffix) or "\0" in key:
            return None
        pure = PurePosixPath(key)
        if pure.is_absolute() or ".." in pure.parts or pure.as_posix() != key:
            return None
        path = self.root / pure
        return path if path.is_file() and path.resolve().is_relative_to(self.root.resolve()) else None

    def existing(self, key: Key) -> Path:
        """Return the file of a key. Raises ObjectNotFoundError."""
        path = self.file_at(key)
        if path is None:
            raise ObjectNotFoundError(f"{self.where}: holds nothing of key {key!r} below {self.root}")
        return path

    def all_keys(self) -> Iterator[Key]:
        """Yield all keys in order; concurrent writes may or may not be included, as directories are read one by one."""
        return self._below("")

    def _below(self, prefix: str) -> Iterator[Key]:
        try:
            with os.scandir(self.root / prefix) as entries:
                found = sorted(
                    (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name) for entry in entries
                )
        except FileNotFoundError:
            return
        for name in found:
            if name.endswith("/"):
                if prefix or name != f"{DIRECTORY}/":
                    yield from self._below(prefix + name)
            elif name.endswith(self.suffix):
                yield prefix + name

    def close(self) -> None:
        """Make all records durable, and close all files. Raises as `sync`."""
        try:
            self.sync()
        finally:
            self.index.close()
            self.writer.close()

    def sync(self) -> None:
        """Make everything written durable.

        Raises:
            StoreError: this failed, retryable; or files that were written since the last sync are gone, not retryable.
        """
        try:
            self.writer.sync()
        except FileNotFoundError as error:
            remedy = "make sure that nothing removes them while the store is open; a source that can repeat them will"
            raise StoreError(
                f"{self.where}: files below {self.root}: {error.strerror}; {remedy}", retryable=False
            ) from error
        except OSError as error:
            raise StoreError(f"{self.where}: the written records cannot be made durable: {error}") from error
