"""The npy store: each record's array as one `.npy` file."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
import numpy

from penstock.coords import DataCoordinates
from penstock.errors import CannotGetObjectError, CoordinatesError, StoreError
from penstock.record import Record
from penstock.store import Key
from penstock.templates import is_template
from penstock_npy.files import WhenExists
from penstock_npy.folder import Folder
from penstock_npy.json_form import json_bytes
from penstock_npy.npy_format import npy_buffers
from penstock_npy.pair_lock import locked
from penstock_npy.writing import name_of, write_each

_SIDECAR = ".json"


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

    Attributes:
        path: Template of the files' paths, ending in ".npy": "archive/{{ channel }}/{{ '%06d' % seq }}.npy".
        root: Directory that no file leaves; None takes the part of `path` before its first variable.
        when_exists: "error" raises RecordExistsError, "skip" keeps the file and drops the record, "replace" overwrites.
        sync_each: True makes each record durable before `write` returns; costs a flush of the disk per record.
        sidecar: "json" writes channel, seq, time, coordinates and metadata to a `….npy.json` beside each file, first;
            "none" keeps nothing but the array.
    """

    takes: ClassVar[str] = "array"

    path: str = attrs.field(validator=is_template)
    root: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    when_exists: WhenExists = attrs.field(default="error", validator=attrs.validators.in_(("error", "replace", "skip")))
    sync_each: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    sidecar: Literal["none", "json"] = attrs.field(default="none", validator=attrs.validators.in_(("none", "json")))
    _folder: Folder | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Compile the template and see that the root can be written to; nothing is made before the first record.

        Raises:
            TemplateError: the template cannot be compiled.
            CannotConnectToStoreError: the root is no directory, or may not be written to.
        """
        self._folder = Folder.open(self._where, self.path, self.root, ".npy", self.when_exists, self.sync_each)

    def write(self, records: Sequence[Record]) -> None:
        folder = self._opened()
        write_each(records, lambda record: self._write(folder, record), where=self._where)

    def sync(self) -> None:
        self._opened().sync()

    def close(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.sync()

    def key_of(self, record: Record) -> Key:
        return self._opened().key_of(record)

    def get(self, key: Key) -> Record:
        """Return the record of this key; without a sidecar only its `data`, and the time its file was written.

        The array is a new one, (…) as stored. Raises ObjectNotFoundError, or CannotGetObjectError if the file is
        damaged, is no `.npy`, or holds Python objects.
        """
        folder = self._opened()
        path = folder.existing(key)
        together = contextlib.nullcontext() if self.sidecar == "none" else locked(os.path.dirname(path), shared=True)
        try:
            with together:  # the array and the sidecar of one record, also while it is replaced
                array = numpy.load(path, allow_pickle=False)
                said = self._said(path)
        except (OSError, ValueError, EOFError) as error:
            raise CannotGetObjectError(f"{self._where}: {path} cannot be read: {error}") from error
        if said is None:
            return Record(array, time_ns=path.stat().st_mtime_ns)
        return Record(array, **said)

    def keys(self, **coords: Any) -> Iterator[Key]:
        """Yield the keys in the order of their names; those whose coordinates match, if any are given.

        Raises:
            CoordinatesError: coordinates are given, but `sidecar` is "none", so that none are known.
        """
        folder = self._opened()
        if coords and self.sidecar == "none":
            raise CoordinatesError(f"{self._where}: keeps no coordinates; set sidecar='json', or ask for all keys")
        if not coords:
            return folder.all_keys()
        wanted = DataCoordinates(coords)
        return (key for key in folder.all_keys() if self._coords_of(folder.root / key).matches(wanted))

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
                    os.unlink(_beside(path))
        except OSError as error:
            raise StoreError(f"{self._where}: {path} cannot be removed: {error}") from error
        folder.writer.forget(path)
        folder.writer.forget(_beside(path))

    def replace(self, key: Key, record: Record) -> None:
        """Put the array of this record in the place of the one of this key, at once or not at all.

        With a sidecar, that is replaced first. Stores that read in between wait; a kill in between leaves the old
        array with the new metadata.
        """
        folder = self._opened()
        path = folder.existing(key)
        changed = attrs.evolve(folder, when_exists="replace", writer=folder.writer)
        write_each([record], lambda record: self._write(changed, record, path), where=self._where)

    @property
    def _where(self) -> str:
        return f"NpyStore {self.path!r}"

    def _opened(self) -> Folder:
        if self._folder is None:
            raise StoreError(f"{self._where}: is not open; call open() first", retryable=False)
        return self._folder

    def _write(self, folder: Folder, record: Record, path: Path | None = None) -> None:
        path = path or folder.path_of(record)
        data = record.data
        if not isinstance(data, numpy.ndarray):
            raise StoreError(
                f"{self._where}: record {name_of(record)} holds {type(data).__name__}, not a numpy array; "
                "convert it in a processor (numpy.asarray), or use the json store",
                retryable=False,
            )
        try:
            buffers = npy_buffers(data)
            said = self._sidecar_of(record)
        except (TypeError, ValueError) as error:
            raise StoreError(f"{self._where}: record {name_of(record)}: {error}", retryable=False) from error
        folder.write(record, path, buffers, beside=None if said is None else (_beside(path), [said]))

    def _sidecar_of(self, record: Record) -> bytes | None:
        if self.sidecar == "none":
            return None
        said = {
            "channel": record.channel,
            "seq": record.seq,
            "time_ns": record.time_ns,
            "coords": dict(record.coords),
            "metadata": dict(record.metadata),
            "discontinuity": record.discontinuity,
        }
        return json_bytes(said)

    def _said(self, path: Path) -> dict[str, Any] | None:
        if self.sidecar == "none":
            return None
        try:
            said = json.loads(_beside(path).read_bytes())
        except FileNotFoundError:
            return None
        try:
            return {
                "channel": said["channel"],
                "seq": said["seq"],
                "time_ns": said["time_ns"],
                "coords": DataCoordinates(said["coords"]),
                "metadata": said["metadata"],
                "discontinuity": said["discontinuity"],
            }
        except (KeyError, TypeError, CoordinatesError) as error:
            raise ValueError(f"{_beside(path)} is no sidecar of this store: {error!r}") from error

    def _coords_of(self, path: Path) -> DataCoordinates:
        try:
            said = self._said(path)
        except ValueError as error:
            raise CannotGetObjectError(f"{self._where}: {error}") from error
        return said["coords"] if said else DataCoordinates()


def _beside(path: Path) -> Path:
    return path.with_name(path.name + _SIDECAR)
