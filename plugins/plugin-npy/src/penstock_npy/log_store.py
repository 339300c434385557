"""The npy-log store: the records of a channel appended to files, each with a checksum."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs

from penstock.arguments import checks_arguments
from penstock.codec import decode, encode_bytes
from penstock.coords import DataCoordinates
from penstock.errors import (
    CannotConnectToStoreError,
    CannotGetObjectError,
    CodecError,
    ObjectNotFoundError,
    RecordExistsError,
    StoreError,
)
from penstock.record import Record
from penstock.store import Key
from penstock.validators import at_least, one_of, or_none, positive
from penstock.whole_files import sync_directory
from penstock_npy.channel_name import channel_name
from penstock_npy.entry_log import segments
from penstock_npy.log_channel import RECORD, LogChannel, numbers
from penstock_npy.reserve import Reserve, reserve_setting
from penstock_npy.segment import MOST_BYTES, SegmentWriter, entry_buffers, index_path
from penstock_npy.writing import Failed, failure, name_of, write_groups

_MOST_OPEN = 64
_TIMES = (1 << 64) - 1
_positive = or_none(positive)


@attrs.define(eq=False)
class _Channel:
    """A channel that is being written."""

    log: LogChannel
    writer: SegmentWriter | None = None
    began_s: float = 0.0
    is_dirty: bool = False


@attrs.define(eq=False)
class _State:
    """The state of an open store."""

    reserve: Reserve
    channels: dict[str, _Channel] = attrs.field(factory=dict)
    lock: threading.RLock = attrs.field(factory=threading.RLock)


@checks_arguments
@attrs.define(kw_only=True)
class NpyLogStore:
    """Append each channel's records to a log of its own: thousands of small ones a second, each in constant time.

    `<path>/<channel>/000000000000.log` holds the records in the format of `penstock.codec`, each with a checksum, its
    time and its seq; see `penstock_npy.segment`. When a file is full, the next one begins. Data may be anything that
    the codec takes: arrays, bytes, mappings.

    The key of a record is the name of its channel's directory, "/" and its seq. One store writes to a channel at a
    time, several may write to one log; others, in any process, may read meanwhile.

    Durability: after `kill -9` at any moment each record is complete or absent; the next writer cuts a torn end
    off. Records are durable (they survive a power cut) after the next `sync`.

    Attributes:
        path: The directory of the log.
        when_exists: The action for a record whose seq its channel has: "error" raises RecordExistsError, "skip" drops
            the new one.
        segment_bytes: Bytes at which a file is full.
        segment_s: Seconds after which a file counts as full; None: never, or a quarter of `keep_s`.
        keep_bytes: The most bytes of a channel; the oldest files are removed when it has more. None: no limit.
        keep_s: Seconds that a file is kept after it was last written to. None: no limit. For both limits: the file that
            is being written is never removed, and files are removed with all their records.
        reserve_bytes: Bytes that stay free on the disk. A write that would leave less raises a StoreError that may
            be tried again, so that the run waits or spills as its edges say, before the disk is full.
    """

    takes: ClassVar[str] = "any"

    path: Path = attrs.field(converter=Path)
    when_exists: Literal["error", "skip"] = attrs.field(default="error", validator=one_of("error", "skip"))
    segment_bytes: int = attrs.field(default=256 << 20, validator=at_least(1))
    segment_s: float | None = attrs.field(default=None, validator=_positive)
    keep_bytes: int | None = attrs.field(default=None, validator=or_none(at_least(1)))
    keep_s: float | None = attrs.field(default=None, validator=_positive)
    reserve_bytes: int = reserve_setting()
    _state: _State | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Check that the directory can be written to; nothing is made before the first record.

        Raises:
            CannotConnectToStoreError: it is not a directory, or may not be written to.
        """
        above = self.path
        while not os.path.lexists(above) and above != above.parent:
            above = above.parent
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            what = "may not be written to" if above.is_dir() else "is a file"
            raise CannotConnectToStoreError(f"{self._where}: {above} {what}; use another path")
        self._state = _State(Reserve(self._where, self.path, self.reserve_bytes))

    def write(self, records: Sequence[Record]) -> None:
        state = self._opened()
        with state.lock:
            write_groups(
                records,
                lambda record: (channel_name(record.channel), record),
                lambda name, group, failed: self._write_group(state, name, group, failed),
                where=self._where,
            )

    def sync(self) -> None:
        state = self._opened()
        with state.lock:
            try:
                for channel in state.channels.values():
                    if channel.writer is not None and channel.is_dirty:
                        channel.writer.sync()
                        channel.is_dirty = False
                        sync_directory(channel.log.directory)
                        sync_directory(self.path)
                    self._retire(channel)
            except StoreError:
                raise
            except OSError as error:
                raise StoreError(f"{self._where}: the written records cannot be made durable: {error}") from error

    def close(self) -> None:
        state = self._state
        if state is None:
            return
        try:
            self.sync()
        finally:
            self._state = None
            for channel in state.channels.values():
                _let_go(channel)

    def key_of(self, record: Record) -> Key:
        return f"{channel_name(record.channel)}/{record.seq}"

    def get(self, key: Key) -> Record:
        """Return the record of this key. Raises ObjectNotFoundError, or CannotGetObjectError if it is damaged."""
        state = self._opened()
        with state.lock:
            found = self._find(state, key)
            if found is None:
                raise ObjectNotFoundError(f"{self._where}: holds nothing of key {key!r:.200}")
            segment, at = found
            try:
                return record_of(segment.entry(at))
            except (OSError, CodecError) as error:
                raise CannotGetObjectError(f"{self._where}: {segment.path} cannot be read: {error}") from error

    def keys(self, **coords: Any) -> Iterator[Key]:
        """Yield the keys, of each channel in the order of writing. With coordinates, all records are read."""
        state = self._opened()
        wanted = DataCoordinates(coords)
        for name in self._names():
            with state.lock:
                log = self._channel(state, name).log
                log.catch_up()
                found = [(segment, each) for segment in log.segments.values() for each in enumerate(numbers(segment))]
            for segment, (at, number) in found:
                if coords:
                    with contextlib.suppress(CannotGetObjectError, CodecError, OSError):
                        with state.lock:
                            entry = segment.entry(at)
                        if record_of(entry).coords.matches(wanted):
                            yield f"{name}/{number}"
                else:
                    yield f"{name}/{number}"

    def __contains__(self, key: object) -> bool:
        state = self._opened()
        with state.lock:
            return isinstance(key, str) and self._find(state, key) is not None

    def __len__(self) -> int:
        state = self._opened()
        total = 0
        with state.lock:
            for name in self._names():
                log = self._channel(state, name).log
                log.catch_up()
                total += len(log)
        return total

    @property
    def _where(self) -> str:
        return f"NpyLogStore {os.fspath(self.path)!r}"

    def _opened(self) -> _State:
        if self._state is None:
            raise StoreError(f"{self._where}: is not open; call open() first", retryable=False)
        return self._state

    def _names(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
        return []

    def _channel(self, state: _State, name: str) -> _Channel:
        channel = state.channels.get(name)
        if channel is None:
            if len(state.channels) >= _MOST_OPEN:
                _let_go(state.channels.pop(next(iter(state.channels))))
            channel = state.channels[name] = _Channel(LogChannel(self.path / name))
        return channel

    def _write_group(self, state: _State, name: str, group: list[Record], failed: Failed) -> None:
        channel = self._channel(state, name)
        try:
            writer = self._writer(channel)
        except OSError as error:
            failed += [(record, failure(record, error, where=self._where)) for record in group]
            return
        buffers: list[Any] = []
        places: list[tuple[int, int, int]] = []
        written: list[Record] = []
        offset, highest, pending = 0, channel.log.highest, set()
        for record in group:
            if record.seq <= highest and (record.seq in pending or channel.log.find(record.seq) is not None):
                if self.when_exists == "error":
                    message = (
                        f"{self._where}: record {name_of(record)} is there; use when_exists='skip' if it comes again"
                    )
                    failed.append((record, RecordExistsError(message)))
                continue
            try:
                payload = encode_bytes(record)
                if len(payload) > MOST_BYTES:
                    raise CodecError(f"{len(payload)} bytes are too many; {MOST_BYTES} are possible")
            except CodecError as error:
                message = f"{self._where}: record {name_of(record)}: {error}"
                failed.append((record, StoreError(message, retryable=False)))
                continue
            entry = entry_buffers(record.time_ns & _TIMES, record.seq, payload, RECORD)
            places.append((offset, record.seq, record.time_ns & _TIMES))
            offset += sum(map(len, entry))
            buffers += entry
            highest = max(highest, record.seq)
            pending.add(record.seq)
            written.append(record)
        if not written:
            return
        try:
            state.reserve.take(offset)
            writer.append(buffers, places)
        except OSError as error:
            failed += [(record, failure(record, error, where=self._where)) for record in written]
            return
        channel.log.highest = highest
        channel.is_dirty = True

    def _writer(self, channel: _Channel) -> SegmentWriter:
        writer, directory = channel.writer, channel.log.directory
        if writer is not None and not writer.is_there:
            raise StoreError(f"{self._where}: {writer.path} was removed while it was written to", retryable=False)
        lasts_s = self.segment_s or (self.keep_s / 4 if self.keep_s else None)
        is_full = writer is not None and (
            writer.size >= self.segment_bytes
            or (lasts_s is not None and bool(writer.count) and time.monotonic() - channel.began_s >= lasts_s)
        )
        if writer is not None and not is_full:
            return writer
        directory.mkdir(parents=True, exist_ok=True)
        there = segments(directory)
        number = int(there[-1].stem) if there else 0
        if writer is not None:
            writer.sync()
            number += 1
        new = SegmentWriter(directory / f"{number:012d}.log")
        new.open()
        if writer is not None:
            writer.close()
        channel.writer, channel.began_s = new, time.monotonic()
        channel.log.catch_up()
        self._retire(channel)
        return new

    def _retire(self, channel: _Channel) -> None:
        """Remove the files beyond the limits of size and age; never the last one."""
        if (self.keep_bytes is None and self.keep_s is None) or channel.writer is None:
            return
        closed = segments(channel.log.directory)[:-1]
        sizes = [path.stat().st_size for path in closed]
        total = sum(sizes) + channel.writer.size
        oldest_s = 0.0 if self.keep_s is None else time.time() - self.keep_s
        for path, size in zip(closed, sizes, strict=True):
            is_too_much = self.keep_bytes is not None and total > self.keep_bytes
            if not is_too_much and path.stat().st_mtime >= oldest_s:
                break
            total -= size
            path.unlink(missing_ok=True)
            index_path(path).unlink(missing_ok=True)

    def _find(self, state: _State, key: str) -> Any:
        name, mark, text = key.rpartition("/")
        digits = text.removeprefix("-")
        if not mark or "/" in name or name in ("", ".", "..") or "\0" in name:
            return None
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and str(int(text)) == text):
            return None
        if name not in state.channels and len(name) <= 255 and not (self.path / name).is_dir():
            return None
        return None if len(name) > 255 else self._channel(state, name).log.find(int(text))


def record_of(entry: tuple[int, int, int, bytes], channel: str = "", seq: int = 0) -> Record:
    """Return the record of an entry; one of a DataLogger becomes bytes, with this channel and seq.

    Raises:
        CodecError: it is not a record.
    """
    when, _, source, payload = entry
    if source == RECORD:
        return decode(bytearray(payload))
    return Record(payload, channel=channel, seq=seq, time_ns=min(when, (1 << 63) - 1), metadata={"source_id": source})


def _let_go(channel: _Channel) -> None:
    channel.log.close()
    if channel.writer is not None:
        with contextlib.suppress(StoreError):
            channel.writer.sync()
        channel.writer.close()
