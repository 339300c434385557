"""SpillFiles: the files of one edge that spills: written at one end, read and removed at the other.

They are record logs (see `penstock.recordlog`) in one directory, `00000001.log` and so on. Each is begun when the
previous one is large enough, and removed when all of its records have been taken. They are not synced: they survive
a crash of the process, not of the machine. The next run first reads the files that a dead run left.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from penstock.errors import CodecError, StoreError
from penstock.record import Record
from penstock.recordlog import MAGIC, RecordLog, read_log

try:
    import fcntl
except ImportError:  # on Windows, two edges that spill into one directory are not detected
    fcntl = None  # type: ignore[assignment]  # None: not available

_log = logging.getLogger("penstock.run")

FILE_BYTES: Final = 64 * 2**20
BACK_AT_ONCE: Final = 256
"""The most records that are read back at once."""
BACK_BYTES: Final = 8 * 2**20
"""The approximate limit of bytes of a file that are read back at once."""

_NAMES = "[0-9]" * 8 + ".log"


@attrs.define(eq=False)
class Segment:
    """One file: its length, the position up to which it has been read, and whether it is from a dead run."""

    path: Path
    left_over: bool
    size_bytes: int = len(MAGIC)
    read_to: int = len(MAGIC)


class SpillFiles:
    """A queue of records in files. One thread at a time.

    Args:
        directory: The directory of the files, one for each edge; made by `open`.
        most_bytes: The maximal size of all files together; the last list may exceed it.
    """

    def __init__(self, directory: Path, most_bytes: int) -> None:
        self.directory = directory
        self.most_bytes = most_bytes
        self.file_bytes = min(FILE_BYTES, max(1, most_bytes // 4))
        self.segments: deque[Segment] = deque()
        self._writing: RecordLog | None = None
        self._number = 0
        self._last_read: tuple[Segment, int] | None = None
        self._lock: int | None = None

    def open(self) -> None:
        """Lock the directory, and find the files that a dead run left.

        Raises:
            StoreError: another edge, of this run or another, spills into this directory.
            OSError: the directory cannot be made or read.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.directory)
        read_to = self._read_place()
        for path in sorted(self.directory.glob(_NAMES)):
            segment = Segment(path, left_over=True, size_bytes=path.stat().st_size)
            segment.read_to = read_to.get(path.name, segment.read_to)
            self.segments.append(segment)
            self._number = int(path.stem)

    def close(self) -> None:
        """Release the files. Those that are not fully read stay, with a note of the position to continue from."""
        if self._writing is not None:
            self._writing.close(sync=False)
            self._writing = None
        with contextlib.suppress(OSError):  # without the note, some records come twice
            self._write_place()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def unread(self) -> Segment | None:
        """The file that is read next; None if all has been read."""
        return next((segment for segment in self.segments if segment.read_to < segment.size_bytes), None)

    def has_room(self) -> bool:
        """Return whether the files are smaller than the limit."""
        return sum(segment.size_bytes for segment in self.segments) < self.most_bytes

    def write(self, records: Sequence[Record]) -> None:
        """Append records, all or none.

        Raises:
            CodecError: one of them cannot be written as bytes.
            OSError: the disk is full.
        """
        if self._writing is None:
            self._writing = self._begin()
        self.segments[-1].size_bytes = self._writing.append(records)
        if self.segments[-1].size_bytes >= self.file_bytes:
            self._writing.close(sync=False)
            self._writing = None

    def _begin(self) -> RecordLog:
        path = self.directory / f"{self._number + 1:08d}.log"
        log = RecordLog(path)
        try:
            log.open()
        except BaseException:
            with contextlib.suppress(OSError):
                log.close(sync=False)
                path.unlink(missing_ok=True)
            raise
        self._number += 1
        self.segments.append(Segment(path, left_over=False))
        return log

    def read(self, most: int) -> list[Record]:
        """Return the next records of the file `unread`: up to `most`, or about `BACK_BYTES`.

        Empty if only an unfinished entry is left in the file. Raises CodecError, OSError.
        """
        segment = self.unread
        if segment is None:
            return []
        records = []
        start = segment.read_to
        try:
            for offset, record in itertools.islice(read_log(segment.path, start), min(most, BACK_AT_ONCE)):
                records.append(record)
                segment.read_to = offset
                if offset - start >= BACK_BYTES:
                    break
        except CodecError:
            if not records:
                raise
        if not records:
            segment.read_to = segment.size_bytes
        self._last_read = (segment, start)
        return records

    def unread_last(self) -> None:
        """Undo the last `read`: the records that it returned were not taken."""
        if self._last_read is not None:
            segment, start = self._last_read
            segment.read_to = start

    def set_aside(self, segment: Segment, error: CodecError) -> None:
        """Rename a damaged file, and skip the rest of it."""
        damaged = segment.path.with_suffix(".damaged")
        segment.path.rename(damaged)
        segment.read_to = segment.size_bytes
        _log.error("%s; the rest of it is not read; the file is kept as %s", error, damaged)

    def sweep(self) -> bool:
        """Remove the files that are fully read; return whether there were any."""
        gone = False
        while self.segments and self.segments[0].read_to >= self.segments[0].size_bytes:
            if len(self.segments) == 1 and self._writing is not None:
                self._writing.close(sync=False)
                self._writing = None
            self.segments.popleft().path.unlink(missing_ok=True)
            gone = True
        return gone

    @property
    def _place(self) -> Path:
        return self.directory / "place.json"

    def _read_place(self) -> dict[str, int]:
        try:
            place = json.loads(self._place.read_text("utf-8"))
            return {str(place["file"]): int(place["read_to"])}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write_place(self) -> None:
        segment = self.unread
        if segment is None:
            self._place.unlink(missing_ok=True)
        else:
            place = {"file": segment.path.name, "read_to": segment.read_to}
            self._place.write_text(json.dumps(place), "utf-8")


def _lock(directory: Path) -> int | None:
    if fcntl is None:
        return None
    file = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise StoreError(
            f"{directory}: another edge spills into this directory: use a different one for each edge", retryable=False
        ) from None
    except OSError as error:  # a file system without locks
        _log.warning("%s: cannot be locked (%s): make sure that no other run spills into it", directory, error)
    return file
