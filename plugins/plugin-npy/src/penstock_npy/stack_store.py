"""The npy-stack store: the frames of a channel as one `.npy` that grows."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from itertools import count
from operator import lt
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
import numpy

from penstock.arguments import checks_arguments
from penstock.coords import DataCoordinates
from penstock.errors import CannotGetObjectError, ObjectNotFoundError, RecordExistsError, StoreError
from penstock.record import Record
from penstock.store import Key
from penstock.templates import is_template
from penstock.validators import one_of
from penstock_npy.folder import Folder
from penstock_npy.npy_format import npy_buffers
from penstock_npy.pair_lock import locked
from penstock_npy.reserve import reserve_setting
from penstock_npy.series import LEAST_SEQ, Series, numbered
from penstock_npy.stack_file import Said, StackReader, StackWriter, origin_of
from penstock_npy.tagged import tagged_text
from penstock_npy.writing import Failed, failure, name_of, write_groups

_MOST_OPEN = 64
_MOST_KNOWN = 10_000
_NOWHERE = Record(None).coords
_HAVE_BUFFERS = frozenset("uif")
"""Kinds of dtypes whose arrays are written as they are; others as bytes, since not all have a buffer of their own."""
_Frame = tuple[Record, Any, Said]
"""A record, its array, and its coordinates and metadata as text."""
_END = 1 << 63
"""The limit of seq and time_ns in a file of times."""


@attrs.define(eq=False)
class _State:
    """The state of an open store."""

    folder: Folder
    series: dict[str, Series] = attrs.field(factory=dict)
    lock: threading.RLock = attrs.field(factory=threading.RLock)
    keys: dict[str, str] | None = None
    """The files of channels, for templates that use only the channel."""

    def key_of(self, record: Record) -> str:
        """Return the path below the root. Raises StoreError that cannot be retried."""
        if self.keys is None:
            return self.folder.key_of(record)
        key = self.keys.get(record.channel)
        if key is None:
            if len(self.keys) > _MOST_KNOWN:
                self.keys.clear()
            key = self.keys[record.channel] = self.folder.key_of(record)
        return key


@checks_arguments
@attrs.define(kw_only=True)
class NpyStackStore:
    """Append each channel's arrays to one `.npy` that grows, and that `numpy.load(…, mmap_mode="r")` opens at any time.

    For many small frames, which need no file each. A frame of another shape or dtype begins the next file:
    `camera.npy`, `camera-1.npy`. Beside each are `….times.npy` with seq and time of each frame, and `….jsonl` with
    coordinates and metadata, a line for each frame at which they change; see `penstock_npy.stack_file`.

    The key of a record is its path below the root, "#" and its seq. One file takes one channel, and one store writes
    to it at a time; others, in other processes too, may read.

    Durability: after `kill -9` at any moment each frame is complete or absent, and the next run continues after the
    last one. Frames are durable (they survive a power cut) after the next `sync`.

    Attributes:
        path: Template of the files' paths, ending in ".npy": "archive/{{ time|strftime('%j') }}/{{ channel }}.npy".
        root: Directory that no file leaves; None takes the part of `path` before its first variable.
        when_exists: The action for a record whose seq its channel has: "error" raises RecordExistsError, "skip" drops
            the new one.
        reserve_bytes: Bytes that stay free on the disk. A write that would leave less raises a StoreError that may
            be tried again, so that the run waits or spills as its edges say, before the disk is full.
    """

    takes: ClassVar[str] = "array"

    path: str = attrs.field(validator=is_template)
    root: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    when_exists: Literal["error", "skip"] = attrs.field(default="error", validator=one_of("error", "skip"))
    reserve_bytes: int = reserve_setting()
    _state: _State | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Compile the template and see that the root can be written to; nothing is made before the first record.

        Raises:
            TemplateError: the template cannot be compiled.
            CannotConnectToStoreError: the root is not a directory, or may not be written to.
        """
        folder = Folder.open(
            self._where, self.path, self.root, ".npy", self.when_exists, reserve_bytes=self.reserve_bytes
        )
        self._state = _State(folder, keys={} if folder.template.variables <= {"channel"} else None)

    def write(self, records: Sequence[Record]) -> None:
        state = self._opened()
        with state.lock:
            write_groups(
                records,
                lambda record: (state.key_of(record), self._prepared(record)),
                lambda key, group, failed: self._write_group(state, key, group, failed),
                where=self._where,
            )

    def sync(self) -> None:
        state = self._opened()
        with state.lock:
            try:
                for series in state.series.values():
                    self._sync(series)
            except OSError as error:
                if isinstance(error, StoreError):
                    raise
                raise StoreError(f"{self._where}: the written records cannot be made durable: {error}") from error
        state.folder.sync()

    def close(self) -> None:
        state = self._state
        if state is None:
            return
        try:
            self.sync()
        finally:
            self._state = None
            for series in state.series.values():
                if series.writer is not None:
                    series.writer.close()

    def key_of(self, record: Record) -> Key:
        return f"{self._opened().folder.key_of(record)}#{record.seq}"

    def get(self, key: Key) -> Record:
        """Return the record of this key, its array a new one.

        Raises ObjectNotFoundError, or CannotGetObjectError if a file is damaged.
        """
        found = self._find(key)
        if found is None:
            raise ObjectNotFoundError(f"{self._where}: holds nothing of key {key!r} below {self._opened().folder.root}")
        series, reader, frame = found
        try:
            return reader.record(frame, series.channel)
        except OSError as error:
            raise CannotGetObjectError(f"{self._where}: {reader.path} cannot be read: {error}") from error

    def keys(self, **coords: Any) -> Iterator[Key]:
        """Yield the keys, of each file in the order in which they were written; no array is read."""
        wanted = DataCoordinates(coords)
        for base, series in self._all():
            for reader in series.readers:
                seqs = reader.seqs["seq"]
                if not coords:
                    yield from (f"{base}#{seq}" for seq in seqs.tolist())
                    continue
                for first, end, there in reader.spans():
                    if there.matches(wanted):
                        yield from (f"{base}#{seq}" for seq in seqs[first:end].tolist())

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._find(key) is not None

    def __len__(self) -> int:
        return sum(len(reader.seqs) for _, series in self._all() for reader in series.readers)

    @property
    def _where(self) -> str:
        return f"NpyStackStore {self.path!r}"

    def _opened(self) -> _State:
        if self._state is None:
            raise StoreError(f"{self._where}: is not open; call open() first", retryable=False)
        return self._state

    def _prepared(self, record: Record) -> _Frame:
        data = record.data
        if not (-_END <= record.seq < _END and -_END <= record.time_ns < _END):
            message = f"record {name_of(record)}: its seq or time_ns takes more than 64 bits"
            raise StoreError(f"{self._where}: {message}", retryable=False)
        if not isinstance(data, numpy.ndarray):
            raise StoreError(
                f"{self._where}: record {name_of(record)} holds {type(data).__name__}, not a numpy array; "
                "convert it in a processor (numpy.asarray)",
                retryable=False,
            )
        try:
            if not (type(data) is numpy.ndarray and data.dtype.kind in _HAVE_BUFFERS and data.flags.c_contiguous):
                npy_buffers(data)  # refuses data that a file cannot hold
                data = numpy.ascontiguousarray(data).reshape(data.shape)
            coords = "{}" if record.coords is _NOWHERE else tagged_text(record.coords)
            return record, data, (coords, tagged_text(record.metadata))
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(f"{self._where}: record {name_of(record)}: {error}", retryable=False) from error

    def _write_group(
        self,
        state: _State,
        key: str,
        group: list[_Frame],
        failed: Failed,
    ) -> None:
        try:
            series = self._series_of(state, key)
        except (OSError, CannotGetObjectError) as error:
            failed += [(record, failure(record, error, where=self._where)) for record, _, _ in group]
            return
        new = group if self._is_new(series, group) else self._new_of(series, key, group, failed)
        while new:
            length = _alike(new)
            batch, new = new[:length], new[length:]
            try:
                self._append(state.folder, series, key, batch)
            except (OSError, TypeError, CannotGetObjectError) as error:
                failed += [(record, failure(record, error, where=self._where)) for record, _, _ in [*batch, *new]]
                return

    def _is_new(self, series: Series, group: list[_Frame]) -> bool:
        """Return whether all frames are of this channel, and behind all that are there: so they are nearly always."""
        if not series.readers and series.writer is None:
            series.channel = group[0][0].channel
        seqs = [frame[0].seq for frame in group]
        return (
            seqs[0] > series.highest
            and {frame[0].channel for frame in group} == {series.channel}
            and all(map(lt, seqs, seqs[1:]))
        )

    def _new_of(self, series: Series, key: str, group: list[_Frame], failed: Failed) -> list[_Frame]:
        """Return the frames that are to be written; others are there, or of another channel."""
        new: list[_Frame] = []
        highest = series.highest
        pending: set[int] = set()
        for each in group:
            record = each[0]
            if series.channel != record.channel and (series.readers or new):
                failed.append((record, self._foreign(record, series, key)))
                continue
            series.channel = record.channel
            if record.seq <= highest and (record.seq in pending or series.find(record.seq, key) is not None):
                if self.when_exists == "error":
                    message = (
                        f"{self._where}: record {name_of(record)}: {key} has this seq already; use when_exists='skip'"
                    )
                    failed.append((record, RecordExistsError(f"{message} if it comes again after a restart")))
                continue
            highest = max(highest, record.seq)
            pending.add(record.seq)
            new.append(each)
        return new

    def _append(self, folder: Folder, series: Series, key: str, batch: list[_Frame]) -> None:
        data = batch[0][1]
        folder.reserve.take(data.nbytes * len(batch))
        writer = series.writer
        if writer is not None and not writer.is_there:
            raise StoreError(
                f"{self._where}: {writer.frames.path} was removed while it was written to", retryable=False
            )
        if writer is None and series.readers:
            writer = series.writer = StackWriter.open(series.readers[-1].path)
        if writer is None or not writer.takes(data):
            if writer is not None:
                writer.sync()
                writer.close()
                series.writer = None
            writer = series.writer = self._begun(folder, series, key, data)
        buffers = [each[1] for each in batch]
        if data.dtype.kind not in _HAVE_BUFFERS:
            buffers = [buffer.reshape(-1).view(numpy.uint8) for buffer in buffers]
        try:
            writer.append([each[0] for each in batch], buffers, [each[2] for each in batch])
        except OSError:
            if not writer.frames.count:  # a file that was begun for these leaves nothing behind
                writer.remove()
                series.writer = None
                series.readers.pop()
                series.next_number -= 1
            raise
        series.highest = max(series.highest, *(each[0].seq for each in batch), LEAST_SEQ)

    def _begun(self, folder: Folder, series: Series, key: str, data: Any) -> StackWriter:
        series.base.parent.mkdir(parents=True, exist_ok=True)
        with locked(os.fspath(series.base.parent)):
            number = next(n for n in count(series.next_number) if not os.path.lexists(numbered(series.base, n)))
            path = numbered(series.base, number)
            writer = StackWriter.make(path, data.dtype, data.shape, {"path": key, "channel": series.channel})
        folder.writer.must_last(path)
        series.readers.append(StackReader(path))
        series.next_number = number + 1
        return writer

    def _series_of(self, state: _State, key: str) -> Series:
        """Return the files of a key without "#", as they are now."""
        series = state.series.get(key)
        if series is None:
            if len(state.series) >= _MOST_OPEN:
                oldest = state.series.pop(next(iter(state.series)))
                if oldest.writer is not None:
                    oldest.writer.sync()
                    oldest.writer.close()
            series = state.series[key] = Series(state.folder.root / key)
        if series.writer is None:
            series.catch_up(key)
        return series

    def _find(self, key: str) -> tuple[Series, StackReader, int] | None:
        state = self._opened()
        base, mark, text = key.rpartition("#")
        if not mark or not _is_number(text) or state.folder.file_at(base) is None:
            return None
        with state.lock:
            try:
                series = self._series_of(state, base)
                found = series.find(int(text), base)
            except OSError as error:
                raise CannotGetObjectError(f"{self._where}: {base}: {error}") from error
        return None if found is None else (series, *found)

    def _all(self) -> Iterator[tuple[str, Series]]:
        folder = self._opened().folder
        seen = set()
        for name in folder.all_keys():
            if name.endswith(".times.npy"):
                continue
            origin = origin_of(folder.root / name)
            if origin is None or origin.get("path") in seen:
                continue
            base = origin["path"]
            seen.add(base)
            series = Series(folder.root / base)
            series.catch_up(base)
            yield base, series

    def _sync(self, series: Series) -> None:
        if series.writer is not None:
            series.writer.sync()
            if not series.writer.is_there:
                path = series.writer.frames.path
                raise StoreError(f"{self._where}: {path} was removed while it was written to", retryable=False)

    def _foreign(self, record: Record, series: Series, key: str) -> StoreError:
        return StoreError(
            f"{self._where}: record {name_of(record)}: {key} is of channel {series.channel!r}; "
            "put {{ channel }} into the path",
            retryable=False,
        )


def _alike(frames: Sequence[_Frame]) -> int:
    """Return how many frames at the beginning have the shape and the dtype of the first one."""
    dtype, shape = frames[0][1].dtype, frames[0][1].shape
    for number, (_, data, _) in enumerate(frames):
        other = data.dtype
        if (other is not dtype and other != dtype) or data.shape != shape:
            return number
    return len(frames)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() and str(int(text[:20])) == text
