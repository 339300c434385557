"""One channel of a log: its segments, which are read while they are written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
import numpy

from penstock.errors import CannotGetObjectError
from penstock_npy.entry_log import segments
from penstock_npy.segment import HEAD, Places, check_entry, read_places

RECORD = (1 << 32) - 1
"""The source id of entries whose payload is a record in the format of `penstock.codec`."""


@attrs.define(eq=False)
class LogSegment:
    """A segment that is being read."""

    path: Path
    places: Places = attrs.field(factory=lambda: read_places(Path("nothing")))
    _is_sorted: bool = True
    _fd: int = -1

    def catch_up(self) -> None:
        """Check for new entries."""
        known = len(self.places)
        more = read_places(self.path, known)
        if len(more):
            self.places = numpy.concatenate([self.places, more])
            numbers = self.places["number"]
            if self._is_sorted:
                self._is_sorted = bool((numbers[max(1, known) :] > numbers[max(1, known) - 1 : -1]).all())

    def find(self, number: int) -> int | None:
        """Return the index of the entry with a number, or None."""
        numbers = self.places["number"]
        if self._is_sorted:
            at = int(numpy.searchsorted(numbers, number))
            return at if at < len(numbers) and numbers[at] == number else None
        found = numpy.flatnonzero(numbers == number)
        return int(found[0]) if len(found) else None

    def entry(self, at: int) -> tuple[int, int, int, bytes]:
        """Return time, number, source id and payload of an entry. Raises CannotGetObjectError, OSError."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        offset = int(self.places[at]["offset"])
        end = int(self.places[at + 1]["offset"]) if at + 1 < len(self.places) else offset + 65536
        content = os.pread(self._fd, end - offset, offset)
        if len(content) >= HEAD.size:
            _, time, number, size, source = HEAD.unpack_from(content)
            if HEAD.size + size > len(content) and offset + HEAD.size + size <= os.fstat(self._fd).st_size:
                content += os.pread(self._fd, HEAD.size + size - len(content), offset + len(content))
            payload = content[HEAD.size : HEAD.size + size]
            if len(payload) == size and check_entry(content[: HEAD.size], payload):
                return time, number, source, payload
        raise CannotGetObjectError(f"{self.path}: the entry at byte {offset} is damaged")

    def close(self) -> None:
        """Close the file, any number of times."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


@attrs.define(eq=False)
class LogChannel:
    """The segments of a channel, in their order.

    Attributes:
        directory: Where they are.
        highest: The highest number of an entry.
    """

    directory: Path
    highest: int = -(1 << 63)
    segments: dict[str, LogSegment] = attrs.field(factory=dict)

    def catch_up(self) -> None:
        """Check for new segments and entries, and forget those that were removed."""
        names = {path.stem: path for path in segments(self.directory)}
        for stem in [stem for stem in self.segments if stem not in names]:
            self.segments.pop(stem).close()
        for stem, path in names.items():
            segment = self.segments.get(stem)
            if segment is None:
                segment = self.segments[stem] = LogSegment(path)
            known = len(segment.places)
            segment.catch_up()
            if len(segment.places) > known:
                self.highest = max(self.highest, int(segment.places["number"][known:].max()))

    def find(self, number: int) -> tuple[LogSegment, int] | None:
        """Return the place of the entry with a number, or None; checks for new entries if it is unknown."""
        found = self._known(number)
        if found is None:
            self.catch_up()
            found = self._known(number)
        return found

    def _known(self, number: int) -> tuple[LogSegment, int] | None:
        for segment in reversed(self.segments.values()):
            at = segment.find(number)
            if at is not None:
                return segment, at
        return None

    def __len__(self) -> int:
        return sum(len(segment.places) for segment in self.segments.values())

    def close(self) -> None:
        """Close the files, any number of times."""
        for segment in self.segments.values():
            segment.close()


def numbers(segment: LogSegment) -> list[int]:
    """Return the numbers of the entries of a segment."""
    found: Any = segment.places["number"].tolist()
    return list(found)
