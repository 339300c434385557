"""The npy store: each record's array as one `.npy` file, or as one for each of its sub-arrays."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import attrs
import numpy

from penstock.arguments import checks_arguments
from penstock.coords import DataCoordinates
from penstock.errors import CannotGetObjectError, ConfigError, CoordinatesError, RecordExistsError, StoreError
from penstock.record import Record
from penstock.store import Key
from penstock.templates import Template, is_template
from penstock.validators import flag, one_of
from penstock_npy.files import WhenExists
from penstock_npy.folder import SIDECAR, Folder, Item
from penstock_npy.index import entry_of, fields_of, file_id
from penstock_npy.npy_format import npy_buffers, read_array
from penstock_npy.pair_lock import locked
from penstock_npy.reserve import reserve_setting
from penstock_npy.writing import fail, name_of, reported, write_each

SPLIT_INDEX = "_split_index"


@checks_arguments
@attrs.define(kw_only=True)
class NpyStore:
    """Write each record's array as one `.npy` file, whole or not at all.

    The key of a record is its path below the root. Data must be a numpy array of any shape and of any dtype without
    Python objects; lists and numbers are refused, since a file could not say that it was one. A file that exists is
    never overwritten unless `when_exists` is "replace".

    Durability: after `kill -9` at any moment each file is whole or absent. A file is durable (it survives a power
    cut) after the next `sync`, or at once with `sync_each`; after a power cut before that, it may be missing, empty or
    short. Reading needs no more than an open store, and may happen in any thread and process, also while it is
    written to.

    The other fields of the record (channel, seq, time, coordinates, metadata) are a line in the index,
    `.index/<channel>.jsonl` below the root, which the json module reads; see `penstock_npy.index`. `penstock recover`
    makes a lost one again.

    Attributes:
        path: Template of the files' paths, ending in ".npy": "archive/{{ channel }}/{{ '%06d' % seq }}.npy".
        root: Directory that no file leaves; None takes the part of `path` before its first variable.
        when_exists: "error" raises RecordExistsError, "skip" keeps the file and drops the record, "replace" overwrites,
            "number" takes the next free name: "a.npy", "a-1.npy", "a-2.npy". With "number" a record that comes again
            is written again, and its key is not that of `key_of`.
        sync_each: True makes each record durable before `write` returns; costs a flush of the disk per record.
        sidecar: The place of the other fields. "index": in the index; "json": in a `….npy.json` beside each file, which
            takes as much time as the file itself; "none": nowhere.
        split: True writes one file for each sub-array of axis 0, with its number as `_split_index` in the template
            and in the metadata. Their names are looked up before any is written: with "error", a record one of whose
            names is taken writes none. The key of a record is that of its first file then.
        reserve_bytes: Bytes that stay free on the disk. A write that would leave less raises a StoreError that may
            be tried again, so that the run waits or spills as its edges say, before the disk is full.
        checksums: "xxh3" notes the checksum of each file in a file `checksums` in its directory, which
            `xxhsum --check checksums` and `penstock_npy.checksums.verify_checksums` verify; "none" does not.
    """

    takes: ClassVar[str] = "array"

    path: str = attrs.field(validator=is_template)
    root: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    when_exists: WhenExists = attrs.field(default="error", validator=one_of(*get_args(WhenExists)))
    sync_each: bool = attrs.field(default=False, validator=flag)
    sidecar: Literal["index", "json", "none"] = attrs.field(default="index", validator=one_of("index", "json", "none"))
    split: bool = attrs.field(default=False, validator=flag)
    reserve_bytes: int = reserve_setting()
    checksums: Literal["none", "xxh3"] = attrs.field(default="none", validator=one_of("none", "xxh3"))
    _folder: Folder | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if self.split and SPLIT_INDEX not in Template(self.path, root=self.root).variables:
            raise ConfigError(
                f"path: {self.path!r} gives all sub-arrays of a record the same name; add {{{{ {SPLIT_INDEX} }}}} "
                "to it, or set split=False"
            )

    def open(self) -> None:
        """Compile the template and see that the root can be written to; nothing is made before the first record.

        Raises:
            TemplateError: the template cannot be compiled.
            CannotConnectToStoreError: the root is not a directory, or may not be written to.
        """
        self._folder = Folder.open(
            self._where,
            self.path,
            self.root,
            ".npy",
            self.when_exists,
            sync_each=self.sync_each,
            reserve_bytes=self.reserve_bytes,
            checksums=self.checksums,
        )

    def write(self, records: Sequence[Record]) -> None:
        folder = self._opened()
        if self.split or self.sidecar == "json" or self.sync_each:
            write_each(records, lambda record: self._write(folder, record), where=self._where)
            return
        failed: list[tuple[Record, BaseException]] = []
        items: list[Item] = []
        is_new = self.when_exists != "replace"
        for record in records:
            try:
                items.append(self._item(record, folder.path_text(record, is_new=is_new)))
            except StoreError as error:
                failed.append((record, error))
        for item in folder.write_together(items):
            with reported(item.record, failed, where=self._where):
                folder.write(item.record, folder.path_of(item.record), item.buffers, entry=item.entry)
        fail(failed, records, where=self._where)

    def sync(self) -> None:
        self._opened().sync()

    def close(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.close()

    def key_of(self, record: Record) -> Key:
        return self._opened().key_of(_part(record, 0) if self.split else record)

    def get(self, key: Key) -> Record:
        """Return the record of this key; without stored fields, its `data` and the time of its file.

        The array is a new one, (…) as stored. Raises ObjectNotFoundError, or CannotGetObjectError if the file is
        damaged, is not a `.npy`, or holds Python objects.
        """
        folder = self._opened()
        path = folder.existing(key)
        together = locked(os.path.dirname(path), shared=True) if self.sidecar == "json" else contextlib.nullcontext()
        try:
            with together:  # the array and the sidecar of one record, also while it is replaced
                array, status = read_array(path)
                line = None
                if self.sidecar == "index":
                    line = folder.index.find(key, file_id(status))
                if line is None and self.sidecar != "none":
                    line = _beside(path)
            fields = {"time_ns": status.st_mtime_ns} if line is None else fields_of(line)
        except (OSError, ValueError, EOFError) as error:
            raise CannotGetObjectError(f"{self._where}: {path} cannot be read: {error}") from error
        return Record(array, **fields)

    def keys(self, **coords: Any) -> Iterator[Key]:
        """Yield the keys in the order of their names; those whose coordinates match, if any are given.

        Raises:
            CoordinatesError: coordinates were passed, but `sidecar` is "none", so that none are kept.
        """
        folder = self._opened()
        if coords and self.sidecar == "none":
            raise CoordinatesError(f"{self._where}: keeps no coordinates; set sidecar='index', or ask for all keys")
        if not coords:
            return folder.all_keys()
        wanted = DataCoordinates(coords)
        if self.sidecar == "json":
            return (key for key in folder.all_keys() if self._coords_of(folder.root / key).matches(wanted))
        return iter(self._found(folder, wanted))

    def _found(self, folder: Folder, wanted: DataCoordinates) -> list[Key]:
        """Return the keys whose line in the index matches; no array is read."""
        lines: dict[Key, list[tuple[Any, DataCoordinates]]] = {}
        for key, identity, coords in folder.index.coordinates():
            lines.setdefault(key, []).append((identity, coords))
        keys = []
        for key, known in lines.items():
            path = folder.file_at(key) if any(coords.matches(wanted) for _, coords in known) else None
            if path is None:
                continue
            counts = known[-1][1]
            if len(known) > 1:
                with contextlib.suppress(FileNotFoundError):
                    there = file_id(path.stat())
                    counts = next((coords for identity, coords in reversed(known) if identity == there), counts)
            if counts.matches(wanted):
                keys.append(key)
        return sorted(keys, key=lambda key: key.split("/"))

    def __contains__(self, key: object) -> bool:
        return self._opened().file_at(key) is not None

    def __len__(self) -> int:
        return sum(1 for _ in self._opened().all_keys())

    def delete(self, key: Key) -> None:
        """Remove the file of this key, and its sidecar. Raises ObjectNotFoundError, or StoreError."""
        folder = self._opened()
        path = folder.existing(key)
        try:
            with locked(os.path.dirname(path)):
                os.unlink(path)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path.with_name(path.name + SIDECAR))
        except OSError as error:
            raise StoreError(f"{self._where}: {path} cannot be removed: {error}") from error
        folder.writer.forget(path)
        folder.writer.forget(path.with_name(path.name + SIDECAR))

    def replace(self, key: Key, record: Record) -> None:
        """Replace the array of this key with that of this record, at once or not at all.

        With `sidecar="json"`, that file is replaced first, and a kill in between leaves the old array with the new
        metadata; with the index, each keeps its own.
        """
        folder = self._opened()
        path = folder.existing(key)
        changed = attrs.evolve(folder, when_exists="replace", writer=folder.writer)
        write_each([record], lambda record: self._write_file(changed, record, path), where=self._where)

    @property
    def _where(self) -> str:
        return f"NpyStore {self.path!r}"

    def _opened(self) -> Folder:
        if self._folder is None:
            raise StoreError(f"{self._where}: is not open; call open() first", retryable=False)
        return self._folder

    def _write(self, folder: Folder, record: Record) -> None:
        if not self.split:
            self._write_file(folder, record, folder.path_of(record))
            return
        data = record.data
        if not isinstance(data, numpy.ndarray) or not data.ndim or not len(data):
            raise StoreError(
                f"{self._where}: record {name_of(record)} has no sub-arrays along axis 0; "
                "set split=False for such records, or filter them out before the store",
                retryable=False,
            )
        parts = [_part(record, index, data[index : index + 1].reshape(data.shape[1:])) for index in range(len(data))]
        paths = [folder.path_of(part) for part in parts]
        if len(set(paths)) < len(paths):
            raise StoreError(f"{self._where}: record {name_of(record)}: two sub-arrays share a name", retryable=False)
        if self.when_exists == "error":
            for path in paths:
                if os.path.lexists(path):
                    raise folder.exists_error(record, path)
        written: list[Path] = []
        try:
            for part, path in zip(parts, paths, strict=True):
                self._write_file(folder, part, path)
                written.append(path)
        except RecordExistsError:
            raise
        except (StoreError, OSError):
            if self.when_exists == "error":  # all were new: a later attempt finds their names free
                for path in written:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
                        folder.writer.forget(path)
            raise

    def _write_file(self, folder: Folder, record: Record, path: Path) -> None:
        item = self._item(record, os.fspath(path))
        if self.sidecar == "json":
            folder.write(record, path, item.buffers, said=f"{{{item.entry}}}".encode("ascii"))
        else:
            folder.write(record, path, item.buffers, entry=item.entry)

    def _item(self, record: Record, path: str) -> Item:
        """Return the file of a record. Raises StoreError, not retryable."""
        data = record.data
        if not isinstance(data, numpy.ndarray):
            raise StoreError(
                f"{self._where}: record {name_of(record)} holds {type(data).__name__}, not a numpy array; "
                "convert it in a processor (numpy.asarray), or use the json store",
                retryable=False,
            )
        try:
            buffers = npy_buffers(data)
            entry = None if self.sidecar == "none" else entry_of(record)
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(f"{self._where}: record {name_of(record)}: {error}", retryable=False) from error
        return Item(record, path, buffers, entry)

    def _coords_of(self, path: Path) -> DataCoordinates:
        try:
            line = _beside(path)
            return DataCoordinates() if line is None else fields_of(line)["coords"]
        except ValueError as error:
            raise CannotGetObjectError(f"{self._where}: {error}") from error


def _part(record: Record, index: int, data: Any = None) -> Record:
    return record.replace(data=data, metadata={**record.metadata, SPLIT_INDEX: index})


def _beside(path: Path) -> dict[str, Any] | None:
    """Return the content of the sidecar of a file, or None if there is none. Raises ValueError, OSError."""
    try:
        line = json.loads(path.with_name(path.name + SIDECAR).read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(line, dict):
        raise ValueError(f"{path.name}{SIDECAR} is not a sidecar of this store")
    return line
