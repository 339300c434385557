"""compress_npy_logs: the entries of a DataLogger, as one `.npz` for each source."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy
from xxhash import xxh3_64_intdigest

from penstock.arguments import checks_arguments
from penstock.errors import CannotGetObjectError, ConfigError, StoreError
from penstock.whole_files import sync_directory
from penstock_npy.entry_files import NAME, entry_array, entry_stem
from penstock_npy.entry_log import segments
from penstock_npy.npz_file import NpzFile, NpzWriter, array_content, bytes_header
from penstock_npy.pair_lock import locked
from penstock_npy.segment import SegmentWriter, index_path, read_entry, read_places

_log = logging.getLogger("penstock")
_SOURCE = re.compile(r"\d{3}\Z")
_OLD, _FILE, _SEGMENTS = 0, 1, 2
"""The place of an entry: the existing archive, a file of its own, or the n-th segment from 2 on."""


@checks_arguments
@attrs.define(frozen=True)
class Compressed:
    """The result of `compress_npy_logs`.

    Attributes:
        archives: The `.npz` files that were written, by source id.
        entries: The number of entries that each has now.
        skipped: Files that were skipped, with the reason.
    """

    archives: dict[int, Path]
    entries: dict[int, int]
    skipped: dict[Path, str]


@attrs.define
class _Gathered:
    """Entries of one source, in columns, so that a million takes about 20 MB."""

    times: Any = attrs.field(factory=lambda: array("Q"))
    kinds: Any = attrs.field(factory=lambda: array("I"))
    places: Any = attrs.field(factory=lambda: array("Q"))
    segments: list[Path] = attrs.field(factory=list)

    def add(self, times: Any, kind: int, places: Any) -> None:
        self.times.frombytes(numpy.asarray(times, "=u8").tobytes())
        self.places.frombytes(numpy.asarray(places, "=u8").tobytes())
        self.kinds.frombytes(numpy.full(len(times), kind, "=u4").tobytes())


@checks_arguments
def compress_npy_logs(
    log_directory: Path,
    remove_sources: bool = False,
    *,
    on_damaged: Literal["skip", "error"] = "skip",
) -> Compressed:
    """Gather the entries below a directory in one `<source id>_log.npz` for each source, in the order of their times.

    Each entry is a member of its archive, (9 + n,) uint8 as `DataLogger` documents it, for both layouts. Entries are
    added to an existing archive; those that it already has, with the same time and payload, are not added again.
    Entries of the same time are all kept, in the order in which they were written. An archive is written under a
    temporary name, read back and compared, and renamed when it is durable; only then the sources are removed.

    Args:
        log_directory: The `DataLogger.output_directory`.
        remove_sources: True removes the files of the entries that are then in an archive.
        on_damaged: The action for files that are truncated, or not entries: "skip" leaves them unchanged, logs a
            warning and lists them in the result; "error" stops at the first one.

    Raises:
        ConfigError: there is no such directory.
        CannotGetObjectError: a file is damaged and `on_damaged` is "error"; or an existing archive is damaged.
        StoreError: an archive cannot be written; nothing was removed for it.
    """
    directory = Path(log_directory)
    if not directory.is_dir():
        raise ConfigError(f"log_directory={str(directory)!r}: must be a directory; pass DataLogger.output_directory")
    done = Compressed({}, {}, {})
    with locked(os.fspath(directory)):
        for source, buffered in sorted(_gather(directory, done.skipped).items()):
            _archive(directory, source, buffered, done, on_damaged, remove_sources)
    for path, reason in done.skipped.items():
        if on_damaged == "error":
            raise CannotGetObjectError(f"compress_npy_logs: {path}: {reason}; remove it, or set on_damaged='skip'")
        _log.warning("compress_npy_logs: %s is skipped: %s", path, reason)
    return done


def _gather(directory: Path, skipped: dict[Path, str]) -> dict[int, _Gathered]:
    found: dict[int, _Gathered] = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            name = entry.name
            if name.endswith(".npy"):
                match = NAME.match(name[:-4])
                if match is None or int(match[1]) > 255:
                    skipped[directory / name] = "its name is not that of an entry"
                    continue
                buffered = found.setdefault(int(match[1]), _Gathered())
                buffered.times.append(int(match[2]))
                buffered.kinds.append(_FILE)
                buffered.places.append(int(match[3] or 0))
            elif _SOURCE.match(name) and int(name) < 256 and entry.is_dir():
                buffered = found.setdefault(int(name), _Gathered())
                for path in segments(directory / name):
                    _gather_segment(path, buffered, skipped)
    return {source: buffered for source, buffered in found.items() if len(buffered.times)}


def _gather_segment(path: Path, buffered: _Gathered, skipped: dict[Path, str]) -> None:
    writer = SegmentWriter(path)
    try:
        cut = writer.open()  # cuts off an unfinished entry
    except (StoreError, OSError) as error:
        skipped[path] = str(error)
        return
    writer.close()
    if cut:
        _log.warning("compress_npy_logs: %s ended in %d bytes of an entry that was never finished", path, cut)
    places = read_places(path)
    buffered.segments.append(path)
    buffered.add(places["time"], _SEGMENTS + len(buffered.segments) - 1, places["offset"])


def _archive(
    directory: Path, source: int, buffered: _Gathered, done: Compressed, on_damaged: str, remove_sources: bool
) -> None:
    path = directory / f"{source}_log.npz"
    taken = _Taken(directory, source, buffered)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        taken.add_old(path)
        with temporary.open("wb") as file:
            count = taken.write(file, done.skipped, on_damaged)
            file.flush()
            os.fsync(file.fileno())
        _verify(temporary, count)
        temporary.replace(path)
        sync_directory(directory)
    except OSError as error:
        raise StoreError(f"compress_npy_logs: {path} cannot be written: {error}") from error
    finally:
        taken.close()
        temporary.unlink(missing_ok=True)
    done.archives[source], done.entries[source] = path, count
    if remove_sources:
        taken.remove(done.skipped)


@attrs.define
class _Taken:
    """The entries of one source, from all places."""

    directory: Path
    source: int
    buffered: _Gathered
    old: NpzFile | None = None

    def add_old(self, path: Path) -> None:
        """Add those of the existing archive. Raises CannotGetObjectError if it is damaged."""
        if not path.exists():
            return
        self.old = NpzFile(path)
        self.old.open()
        times = array("Q")
        for name, _, _, _ in self.old.places(0, self.old.count):
            match = NAME.match(name.removesuffix(".npy"))
            if match is None:
                raise CannotGetObjectError(f"{path}: {name} is not an entry of a log; move this archive away")
            times.append(int(match[2]))
        before = self.buffered
        self.buffered = _Gathered(segments=before.segments)
        self.buffered.add(times, _OLD, range(len(times)))  # first, so that they stay first among equals
        self.buffered.add(before.times, 0, before.places)
        kinds = numpy.frombuffer(self.buffered.kinds, "=u4").copy()
        kinds[len(times) :] = numpy.frombuffer(before.kinds, "=u4")
        self.buffered.kinds = array("I", kinds.tobytes())

    def write(self, file: Any, skipped: dict[Path, str], on_damaged: str) -> int:
        """Write an archive of all entries; return their number."""
        times = numpy.frombuffer(self.buffered.times, "=u8")
        kinds = numpy.frombuffer(self.buffered.kinds, "=u4")
        places = numpy.frombuffer(self.buffered.places, "=u8")
        order = numpy.lexsort((places, kinds, times))
        in_order = times[order]
        is_unique = bool((in_order[1:] != in_order[:-1]).all())
        again = self._again(times, kinds)
        writer = NpzWriter(file)
        last, number = -1, 0
        try:
            for row in order.tolist():
                time, kind, place = int(times[row]), int(kinds[row]), int(places[row])
                try:
                    content = self._content(time, kind, place)
                except (CannotGetObjectError, OSError) as error:
                    where = self._where(time, kind, place)
                    if on_damaged == "error" or kind == _OLD:
                        raise CannotGetObjectError(f"compress_npy_logs: {where}: {error}") from error
                    skipped[where] = str(error)
                    continue
                header = bytes_header(len(content))
                if again:
                    key = time, xxh3_64_intdigest(content)
                    if kind != _OLD and again[key] > 0:
                        again[key] -= 1
                        continue
                number = number + 1 if time == last else 0
                last = time
                stem = entry_stem(self.source, time) + ("" if is_unique else f"-{number:06d}")
                writer.add(stem, header, content)
            writer.finish()
        finally:
            writer.close()
        return writer.count

    def _again(self, times: Any, kinds: Any) -> Counter[tuple[int, int]]:
        """Return the entries of the archive whose times come again, by time and checksum of the content."""
        known: Counter[tuple[int, int]] = Counter()
        if self.old is None:
            return known
        shared = numpy.intersect1d(times[kinds == _OLD], times[kinds != _OLD])
        for row in numpy.flatnonzero(numpy.isin(times, shared) & (kinds == _OLD)).tolist():
            content = self._content(int(times[row]), _OLD, int(self.buffered.places[row]))
            known[int(times[row]), xxh3_64_intdigest(content)] += 1
        return known

    def _where(self, time: int, kind: int, place: int) -> Path:
        if kind == _FILE:
            return self.directory / f"{entry_stem(self.source, time, place)}.npy"
        if kind == _OLD:
            assert self.old is not None
            return self.old.path
        return self.buffered.segments[kind - _SEGMENTS]

    def _content(self, time: int, kind: int, place: int) -> bytes:
        where = self._where(time, kind, place)
        if kind == _OLD:
            assert self.old is not None
            return self.old.content(next(self.old.places(place, place + 1)))
        if kind != _FILE:
            found, _, _, payload = read_entry(where, place)
            if found != time:
                raise CannotGetObjectError(f"{where}: the entry at byte {place} is of another time")
            return entry_array(self.source, time, payload).tobytes()
        content = array_content(where.read_bytes(), where.name)
        if content[:9] != bytes((self.source,)) + time.to_bytes(8, "little"):
            raise CannotGetObjectError(f"{where.name}: the entry in it does not match its name")
        return content

    def remove(self, skipped: dict[Path, str]) -> None:
        """Remove the files of the entries that are in the archive."""
        for path in self._files():
            if path not in skipped:
                path.unlink(missing_ok=True)
                if path.suffix == ".log":
                    index_path(path).unlink(missing_ok=True)
        for directory in {path.parent for path in self.buffered.segments}:
            with contextlib.suppress(OSError):
                directory.rmdir()

    def _files(self) -> Iterator[Path]:
        for time, kind, place in zip(self.buffered.times, self.buffered.kinds, self.buffered.places, strict=True):
            if kind == _FILE:
                yield self._where(time, kind, place)
        yield from self.buffered.segments

    def close(self) -> None:
        if self.old is not None:
            self.old.close()


def _verify(path: Path, count: int) -> None:
    archive = NpzFile(path)
    archive.open()
    try:
        if archive.count != count:
            raise StoreError(f"compress_npy_logs: {path} has {archive.count} entries, but {count} were written")
        for place in archive.places(0, count):
            archive.content(place)
    finally:
        archive.close()
