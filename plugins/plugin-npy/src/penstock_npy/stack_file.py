"""One file of a stack: frames of one shape and dtype in a `.npy`, with their other fields beside it.

`camera.npy` has the frames, `camera.times.npy` for each its seq, its time and whether it is a discontinuity. The first
line of `camera.jsonl` names the format; each other one is {"frame": n, "coords": {…}, "metadata": {…}}, and is valid
from frame n on until the next line. The header of `camera.npy` is written last: frames that it does not count do not
exist.
"""

from __future__ import annotations

import errno
import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy

from penstock.coords import DataCoordinates
from penstock.errors import CannotGetObjectError, CoordinatesError
from penstock.record import Record
from penstock_npy.growing_array import GrowingArray
from penstock_npy.pair_lock import lock_exclusively
from penstock_npy.tagged import tagged_text, untagged

FORMAT = "penstock-npy stack 1"
_TIMES = numpy.dtype([("seq", "<i8"), ("time_ns", "<i8"), ("discontinuity", "?")])
Said = tuple[str, str]


def times_path(path: Path) -> Path:
    """Return the file with seq and time of each frame."""
    return path.with_suffix(".times.npy")


def said_path(path: Path) -> Path:
    """Return the file with coordinates and metadata."""
    return path.with_suffix(".jsonl")


def origin_of(path: str | Path) -> dict[str, Any] | None:
    """Return the first line beside a `.npy`, or None if it is not a file of a stack."""
    try:
        with open(f"{os.fspath(path).removesuffix('.npy')}.jsonl", "rb") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError):
        return None
    return first if isinstance(first, dict) and first.get("format") == FORMAT else None


@attrs.define(eq=False)
class StackWriter:
    """Append frames to the files of a stack."""

    frames: GrowingArray
    times: GrowingArray
    said_fd: int
    said_size: int
    last: Said | None = None
    is_dirty: bool = True

    @classmethod
    def make(cls, path: Path, dtype: numpy.dtype[Any], shape: tuple[int, ...], origin: dict[str, Any]) -> StackWriter:
        """Make the files; that of the frames last, so that the others exist if it does.

        The caller holds the lock of the directory. Raises FileExistsError, OSError, TypeError.
        """
        frames = GrowingArray(path, dtype, shape)
        times = GrowingArray(times_path(path), _TIMES, ())
        line = json.dumps({"format": FORMAT, **origin}).encode("ascii") + b"\n"
        for leftover in (times.path, said_path(path)):  # of a process that died before it had made all of them
            leftover.unlink(missing_ok=True)
        said_fd = os.open(said_path(path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            if os.pwrite(said_fd, line, 0) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
            times.make()
            frames.make()
            lock_exclusively(frames.fd, path)
        except BaseException:
            os.close(said_fd)
            for each in (frames, times):
                each.close()
            for name in (path, times.path, said_path(path)):
                name.unlink(missing_ok=True)
            raise
        return cls(frames, times, said_fd, len(line))

    @classmethod
    def open(cls, path: Path) -> StackWriter:
        """Open the files to continue, and cut them off after the last frame that counts, in case of a crash.

        Raises:
            StoreError: another process writes to them.
            CannotGetObjectError: they are damaged.
            OSError: they cannot be opened.
        """
        frames = GrowingArray.open(path, writable=True)
        opened = [frames]
        try:
            lock_exclusively(frames.fd, path)
            times = GrowingArray.open(times_path(path), writable=True)
            opened.append(times)
            count = min(frames.count, frames.whole_rows(), times.whole_rows())
            said_fd = os.open(said_path(path), os.O_RDWR | os.O_CLOEXEC)
        except BaseException:
            for each in opened:
                each.close()
            raise
        for each in opened:
            if each.count != count:
                each.say(count)
            each.cut()
        lines = _Lines(said_path(path))
        lines.catch_up(count)
        os.ftruncate(said_fd, lines.size)
        return cls(frames, times, said_fd, lines.size, lines.last_text())

    def takes(self, array: numpy.ndarray[Any, Any]) -> bool:
        """Return whether a frame has the shape and the dtype of this file."""
        return bool(array.dtype == self.frames.dtype) and array.shape == self.frames.shape

    def append(self, records: Sequence[Record], buffers: Sequence[Any], said: Sequence[Said]) -> None:
        """Append frames: all or none. Raises OSError."""
        frames, times = self.frames, self.times
        count = frames.count
        rows = numpy.empty(len(records), _TIMES)
        rows["seq"] = [record.seq for record in records]
        rows["time_ns"] = [record.time_ns for record in records]
        rows["discontinuity"] = [record.discontinuity for record in records]
        lines, last = [], self.last
        for number, each in enumerate(said, count):
            if each != last:
                lines.append(f'{{"frame": {number}, "coords": {each[0]}, "metadata": {each[1]}}}\n')
                last = each
        text = "".join(lines).encode("ascii")
        try:
            frames.write(buffers, len(records))
            times.write([rows.view(numpy.uint8)], len(records))
            if text and os.pwrite(self.said_fd, text, self.said_size) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(frames.path))
            times.say(count + len(records))
            frames.say(count + len(records))
        except OSError:
            frames.cut()
            times.count = count
            times.cut()
            os.ftruncate(self.said_fd, self.said_size)
            raise
        self.last, self.said_size, self.is_dirty = last, self.said_size + len(text), True

    def sync(self) -> None:
        """Make everything durable. Raises OSError."""
        if self.is_dirty:
            for fd in (self.said_fd, self.times.fd, self.frames.fd):
                os.fsync(fd)
            self.is_dirty = False

    @property
    def is_there(self) -> bool:
        """Whether the file has not been removed."""
        return os.fstat(self.frames.fd).st_nlink > 0

    def remove(self) -> None:
        """Close the files and remove them."""
        self.close()
        for path in (self.frames.path, self.times.path, said_path(self.frames.path)):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files, any number of times."""
        self.frames.close()
        self.times.close()
        if self.said_fd >= 0:
            os.close(self.said_fd)
        self.said_fd = -1


@attrs.define(eq=False)
class StackReader:
    """Read frames from the files of a stack, also while they are being written."""

    path: Path
    seqs: numpy.ndarray[Any, numpy.dtype[Any]] = attrs.field(factory=lambda: numpy.empty(0, _TIMES))
    _is_sorted: bool = True
    _lines: Any = None

    def catch_up(self) -> None:
        """Check for new frames. Raises CannotGetObjectError, OSError."""
        frames = GrowingArray.open(self.path)
        frames.close()
        known = len(self.seqs)
        if frames.count <= known:
            return
        times = GrowingArray.open(times_path(self.path))
        try:
            rows = times.rows(known, frames.count)
        finally:
            times.close()
        self.seqs = numpy.concatenate([self.seqs, rows])
        seqs = self.seqs["seq"]
        if self._is_sorted:
            self._is_sorted = bool((seqs[max(1, known) :] > seqs[max(1, known) - 1 : -1]).all())

    def find(self, seq: int) -> int | None:
        """Return the frame of a seq, or None; the last one, if it was written twice."""
        seqs = self.seqs["seq"]
        if self._is_sorted:
            at = int(numpy.searchsorted(seqs, seq))
            return at if at < len(seqs) and seqs[at] == seq else None
        found = numpy.flatnonzero(seqs == seq)
        return int(found[-1]) if len(found) else None

    def record(self, frame: int, channel: str) -> Record:
        """Return the record of a frame, its array a new one. Raises CannotGetObjectError, OSError."""
        frames = GrowingArray.open(self.path)
        try:
            return self._record(frames, self._caught_up(), frame, channel)
        finally:
            frames.close()

    def records(self, start: int, channel: str) -> Iterator[Record]:
        """Yield the records of all known frames from one on. Raises CannotGetObjectError, OSError."""
        frames = GrowingArray.open(self.path)
        try:
            lines = self._caught_up()
            for frame in range(start, len(self.seqs)):
                yield self._record(frames, lines, frame, channel)
        finally:
            frames.close()

    def _record(self, frames: GrowingArray, lines: _Lines, frame: int, channel: str) -> Record:
        data = frames.row(frame)
        coords, metadata = self._said(lines, frame)
        seq, time_ns, discontinuity = self.seqs[frame].item()
        return Record(
            data,
            channel=channel,
            seq=seq,
            time_ns=time_ns,
            discontinuity=discontinuity,
            coords=coords,
            metadata=metadata,
        )

    def spans(self) -> list[tuple[int, int, DataCoordinates]]:
        """Return first frame, end, and coordinates of each span of frames that share them."""
        lines = self._caught_up()
        ends = [*lines.frames[1:], len(self.seqs)]
        return [
            (first, end, lines.read(number)[0])
            for number, (first, end) in enumerate(zip(lines.frames, ends, strict=True))
        ]

    def _said(self, lines: _Lines, frame: int) -> tuple[DataCoordinates, dict[str, Any]]:
        number = bisect_right(lines.frames, frame) - 1
        if number < 0:
            raise CannotGetObjectError(f"{said_path(self.path)}: has no line for frame {frame}")
        found: tuple[DataCoordinates, dict[str, Any]] = lines.read(number)
        return found

    def _caught_up(self) -> _Lines:
        if self._lines is None:
            self._lines = _Lines(said_path(self.path))
        lines: _Lines = self._lines
        lines.catch_up(len(self.seqs))
        return lines


@attrs.define(eq=False)
class _Lines:
    """The lines beside a stack: the first frame and the offset of each."""

    path: Path
    frames: list[int] = attrs.field(factory=list)
    places: list[int] = attrs.field(factory=list)
    size: int = 0

    def catch_up(self, count: int) -> None:
        """Read new lines of frames below `count`. Raises CannotGetObjectError, OSError."""
        with self.path.open("rb") as file:
            file.seek(self.size)
            for text in file:
                if not text.endswith(b"\n"):
                    return
                if self.size:
                    try:
                        frame = json.loads(text)["frame"]
                    except (ValueError, KeyError, TypeError) as error:
                        raise CannotGetObjectError(f"{self.path}: the line at byte {self.size} is damaged") from error
                    if frame >= count:
                        return
                    self.frames.append(frame)
                    self.places.append(self.size)
                self.size += len(text)

    def read(self, number: int) -> tuple[DataCoordinates, dict[str, Any]]:
        """Return coordinates and metadata of a line."""
        line = self._line(number)
        try:
            return DataCoordinates(untagged(line["coords"])), untagged(line["metadata"])
        except (KeyError, TypeError, ValueError, CoordinatesError) as error:
            raise CannotGetObjectError(f"{self.path}: line {number + 2} is damaged: {error}") from error

    def last_text(self) -> Said | None:
        """Return the last line as `StackWriter` compares it."""
        if not self.frames:
            return None
        coords, metadata = self.read(len(self.frames) - 1)
        return tagged_text(coords), tagged_text(metadata)

    def _line(self, number: int) -> Any:
        with self.path.open("rb") as file:
            file.seek(self.places[number])
            return json.loads(file.readline())
