"""The json store: each record as one `.json` file, or as one line of a `.jsonl`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import CannotGetObjectError, ConfigError, CoordinatesError, StoreError
from penstock.record import Record
from penstock.short_text import short
from penstock.store import Key
from penstock.templates import is_template
from penstock.validators import at_least, flag, one_of, or_none
from penstock_npy.files import WhenExists
from penstock_npy.folder import Folder
from penstock_npy.index import entry_of
from penstock_npy.json_form import json_bytes, unmerged
from penstock_npy.json_lines import JsonLines
from penstock_npy.reserve import reserve_setting
from penstock_npy.writing import name_of, write_each


def _is_suffix(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"\.[^/\\{}\0]*[^/\\{}\0.]", value):
        raise ConfigError(f"{field.name}={short(value)}: must be the end of a file's name, such as '.json'")


@checks_arguments
@attrs.define(kw_only=True)
class JsonStore:
    """Write each record's data as one `.json` file, completely or not at all.

    The key of a record is its path below the root. Data may be any value with a JSON form: mappings, lists,
    text, numbers, scalars and arrays of numpy (as lists), dates (as ISO 8601), bytes in any of these (as base64), nan
    and inf (as "NaN" and "Infinity"). It reads back plain data: a tuple comes back as a list, an array as lists, a
    date as text. Durability is that of `NpyStore`.

    Attributes:
        path: Template of the files' paths, ending in `suffix`.
        root: Directory that no file leaves; None takes the part of `path` before its first variable.
        when_exists: "error" raises RecordExistsError, "skip" keeps the file and drops the record, "replace" overwrites.
        sync_each: True makes each record durable before `write` returns; costs a flush of the disk per record.
        merge_metadata: True keeps the metadata in the same object, under the key "metadata"; data that is not a mapping
            goes under "data" then. A mapping that has this key itself is refused.
        indent: Spaces to indent by; None writes one line.
        lines: True appends each record as a line to a file for its channel, by template, which ends in ".jsonl".
            The key of a record is the file's path, "#" and its seq; channel, seq, time, coordinates and metadata are
            kept in an index, as by `NpyStore`. A line that is replaced or deleted becomes blank. One store writes to a
            file at a time.
        reserve_bytes: Bytes that stay free on the disk. A write that would leave less raises a StoreError that may
            be tried again, so that the run waits or spills as its edges say, before the disk is full.
        checksums: "xxh3" notes the checksum of each file in a file `checksums` in its directory, which
            `xxhsum --check checksums` and `penstock_npy.checksums.verify_checksums` verify; "none" does not.
        only_ascii: True escapes all non-ASCII text, for programs that do not read UTF-8.
        suffix: The end of each file's name; None is ".json", or ".jsonl" with `lines`.
    """

    takes: ClassVar[str] = "any"

    path: str = attrs.field(validator=is_template)
    root: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    when_exists: WhenExists = attrs.field(default="error", validator=one_of(*get_args(WhenExists)))
    sync_each: bool = attrs.field(default=False, validator=flag)
    merge_metadata: bool = attrs.field(default=False, validator=flag)
    indent: int | None = attrs.field(default=None, validator=or_none(at_least(0)))
    only_ascii: bool = attrs.field(default=False, validator=flag)
    lines: bool = attrs.field(default=False, validator=flag)
    reserve_bytes: int = reserve_setting()
    checksums: Literal["none", "xxh3"] = attrs.field(default="none", validator=one_of("none", "xxh3"))
    suffix: str | None = attrs.field(default=None, validator=or_none(_is_suffix))
    _folder: Folder | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _lines: JsonLines | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if self.lines and (self.when_exists not in ("error", "skip") or self.indent is not None):
            raise ConfigError("lines: True needs when_exists 'error' or 'skip', and no indent")
        if self.lines and self.checksums != "none":
            raise ConfigError("lines: True has no checksums, since its files grow; use npy-log, or lines=False")

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
            self.suffix or (".jsonl" if self.lines else ".json"),
            self.when_exists,
            sync_each=self.sync_each,
            reserve_bytes=self.reserve_bytes,
            checksums=self.checksums,
        )
        self._lines = JsonLines(self._folder) if self.lines else None

    def write(self, records: Sequence[Record]) -> None:
        folder = self._opened()
        write_each(records, lambda record: self._write(folder, record), where=self._where)

    def sync(self) -> None:
        self._opened().sync()

    def close(self) -> None:
        folder, self._folder = self._folder, None
        lines, self._lines = self._lines, None
        if folder is not None:
            try:
                folder.close()
            finally:
                if lines is not None:
                    lines.close()

    def key_of(self, record: Record) -> Key:
        key = self._opened().key_of(record)
        return f"{key}#{record.seq}" if self.lines else key

    def get(self, key: Key) -> Record:
        """Return the record of this key: its `data`, and its metadata if they were merged.

        Raises ObjectNotFoundError, or CannotGetObjectError if the file is damaged or no JSON.
        """
        folder = self._opened()
        fields: dict[str, Any] = {}
        if self._lines is not None:
            where = key
            text, fields = self._lines.get(key)
        else:
            path = folder.existing(key)
            where = os.fspath(path)
            try:
                text = path.read_bytes()
                fields["time_ns"] = path.stat().st_mtime_ns
            except OSError as error:
                raise CannotGetObjectError(f"{self._where}: {where} cannot be read: {error}") from error
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CannotGetObjectError(f"{self._where}: {where} cannot be read: {error}") from error
        if not self.merge_metadata:
            return Record(value, **fields)
        try:
            value, metadata = unmerged(value)
        except ValueError as error:
            raise CannotGetObjectError(f"{self._where}: {where} {error}") from error
        fields.setdefault("metadata", metadata)
        return Record(value, **fields)

    def keys(self, **coords: Any) -> Iterator[Key]:
        """Yield the keys in the order of their names; lines in the order of writing.

        Raises:
            CoordinatesError: coordinates were passed, but without `lines` none are kept.
        """
        folder = self._opened()
        if self._lines is not None:
            return self._lines.keys(coords)
        if coords:
            raise CoordinatesError(f"{self._where}: keeps no coordinates; ask for all keys")
        return folder.all_keys()

    def __contains__(self, key: object) -> bool:
        folder = self._opened()
        return folder.file_at(key) is not None if self._lines is None else self._lines.has(key)

    def __len__(self) -> int:
        self._opened()
        return sum(1 for _ in self.keys())

    def delete(self, key: Key) -> None:
        """Remove the file of this key. Raises ObjectNotFoundError, or StoreError."""
        folder = self._opened()
        if self._lines is not None:
            try:
                self._lines.delete(key)
            except StoreError:
                raise
            except OSError as error:
                raise StoreError(f"{self._where}: {key} cannot be removed: {error}") from error
            return
        path = folder.existing(key)
        try:
            os.unlink(path)
        except OSError as error:
            raise StoreError(f"{self._where}: {path} cannot be removed: {error}") from error
        folder.writer.forget(path)

    def replace(self, key: Key, record: Record) -> None:
        """Put this record in the place of the one of this key. Raises ObjectNotFoundError, or StoreError."""
        folder = self._opened()
        lines = self._lines
        if lines is not None:
            write_each([record], lambda record: lines.replace(key, record, self._text(record)), where=self._where)
            return
        path = folder.existing(key)
        changed = attrs.evolve(folder, when_exists="replace", writer=folder.writer)
        write_each([record], lambda record: self._write(changed, record, path), where=self._where)

    @property
    def _where(self) -> str:
        return f"JsonStore {self.path!r}"

    def _opened(self) -> Folder:
        if self._folder is None:
            raise StoreError(f"{self._where}: is not open; call open() first", retryable=False)
        return self._folder

    def _write(self, folder: Folder, record: Record, path: Path | None = None) -> None:
        path = path or folder.path_of(record)
        text = self._text(record)
        if self._lines is None:
            folder.write(record, path, [text])
        else:
            self._lines.write(record, text)

    def _text(self, record: Record) -> bytes:
        try:
            value = record.data
            if isinstance(value, bytes | bytearray | memoryview):
                raise TypeError(f"{type(value).__name__} alone are not JSON; put them into a mapping, or use npy-log")
            if self.merge_metadata:
                value = _merged(value, record.metadata)
            if self.lines:
                entry_of(record)
            return json_bytes(value, indent=self.indent, only_ascii=self.only_ascii)
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(f"{self._where}: record {name_of(record)}: {error}", retryable=False) from error


def _merged(data: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        return {"data": data, "metadata": dict(metadata)}
    if "metadata" in data:
        raise ValueError("its data has a key 'metadata' already; rename it, or set merge_metadata=False")
    return {**data, "metadata": dict(metadata)}
