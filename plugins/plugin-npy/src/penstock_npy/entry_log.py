"""The entries of a DataLogger as logs: one directory for each source, with a segment for each session."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from penstock_npy.segment import SegmentWriter

MOST_SEGMENT_BYTES = 1 << 30


def segments(directory: Path) -> list[Path]:
    """Return the segments of one source or channel, in their order."""
    return sorted(directory.glob("*.log"))


@attrs.define
class EntryLog:
    """Append each entry to the log of its source.

    Attributes:
        directory: Where to: `<directory>/<source id>/<number>.log`.
        left: After an error of `write`, the entries that were not written.
    """

    directory: Path
    left: list[Any] = attrs.field(factory=list, init=False)
    _writers: dict[int, SegmentWriter] = attrs.field(factory=dict, init=False)

    def write(self, entries: Sequence[tuple[int, int, memoryview]]) -> None:
        """Append entries, with their heads. Raises OSError; see `left`."""
        by_source: dict[int, list[tuple[int, int, memoryview]]] = {}
        for each in entries:
            by_source.setdefault(each[0], []).append(each)
        self.left = list(entries)
        for source, mine in by_source.items():
            writer = self._writer(source)
            offset = 0
            places = []
            for number, (_, time, entry) in enumerate(mine, writer.count):
                places.append((offset, number, time))
                offset += len(entry)
            writer.append([entry for _, _, entry in mine], places)
            self.left = [each for each in self.left if each[0] != source]

    def _writer(self, source: int) -> SegmentWriter:
        writer = self._writers.get(source)
        if writer is not None and writer.size < MOST_SEGMENT_BYTES:
            return writer
        directory = self.directory / f"{source:03d}"
        directory.mkdir(parents=True, exist_ok=True)
        if writer is not None:
            writer.sync()
            writer.close()
        there = segments(directory)
        number = int(there[-1].stem) + 1 if there else 0
        writer = self._writers[source] = SegmentWriter(directory / f"{number:012d}.log")
        writer.open()
        return writer

    def sync(self) -> None:
        """Make everything durable."""
        for writer in self._writers.values():
            writer.sync()

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
