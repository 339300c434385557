"""The npy-log source: the records of a log, as fast as possible or at their pace."""

from __future__ import annotations

import heapq
import json
import os
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import CannotGetObjectError, CodecError, EndOfSource, SourceError
from penstock.record import Record
from penstock.validators import or_none, positive
from penstock.whole_files import write_whole
from penstock_npy.log_channel import LogChannel, LogSegment
from penstock_npy.log_store import record_of

_POLL_S = 0.05


@attrs.define(eq=False)
class _Cursor:
    """The progress in one channel."""

    name: str
    log: LogChannel
    stem: str = ""
    at: int = 0

    def next(self) -> tuple[LogSegment, int] | None:
        """Return the place of the next entry, or None if there is none yet."""
        for stem, segment in self.log.segments.items():
            if stem < self.stem:
                continue
            at = self.at if stem == self.stem else 0
            if at < len(segment.places):
                self.stem, self.at = stem, at
                return segment, at
        return None

    def seq(self) -> int:
        """Return how many entries are before this one."""
        return self.at + sum(len(segment.places) for stem, segment in self.log.segments.items() if stem < self.stem)


@checks_arguments
@attrs.define(kw_only=True)
class NpyLogSource:
    """Read the records of a log of the npy-log store or a DataLogger, in the order of their times.

    Within a channel they come in the order in which they were written. Entries of a DataLogger come as bytes, with the
    source id as channel ("001"), and counted within it. A damaged one is skipped and counted as lost upstream.

    Attributes:
        path: The directory of the log.
        channels: A pattern of `fnmatch` for the names of the channels' directories.
        speed: The speed relative to the recording; None returns them as fast as they are taken.
        follow: True waits for more at the end, as long as there may be a writer.
        state: A file that keeps the committed position, so that a later run reads the rest; None: each starts over.
    """

    gives: ClassVar[str] = "any"

    path: Path = attrs.field(converter=Path)
    channels: str = "*"
    speed: float | None = attrs.field(default=None, validator=or_none(positive))
    follow: bool = False
    state: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    _cursors: dict[str, _Cursor] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _began: tuple[float, int] | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _lost: dict[str, int] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    def open(self) -> None:
        """List the files. Raises SourceError if there is no such directory, or the state is damaged."""
        if not self.path.is_dir():
            raise SourceError(f"{self.path} is not a directory: use the directory of a log", retryable=False)
        self._cursors, self._began, self._lost = {}, None, {}
        self._catch_up()
        if self.state is not None and self.state.exists():
            try:
                self.seek(json.loads(self.state.read_text("utf-8")))
            except (ValueError, TypeError) as error:
                raise SourceError(f"{self.state}: not the state of a log source: {error}", retryable=False) from error

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the next records. Raises EndOfSource, unless it follows, or OSError."""
        deadline_s = time.monotonic() + timeout_s
        records: list[Record] = []
        waiting = [(int(found[0].places[found[1]]["time"]), cursor.name) for cursor, found in self._found()]
        heapq.heapify(waiting)
        while len(records) < max_records:
            if not waiting:
                if records or not self._wait(deadline_s):
                    return records
                waiting = [(int(found[0].places[found[1]]["time"]), cursor.name) for cursor, found in self._found()]
                heapq.heapify(waiting)
                continue
            when, name = waiting[0]
            due_s = self._due(when)
            if due_s > time.monotonic():
                if records or deadline_s <= time.monotonic():
                    return records
                time.sleep(
                    min(due_s, deadline_s) - time.monotonic() if min(due_s, deadline_s) > time.monotonic() else 0
                )
                continue
            cursor = self._cursors[name]
            self._take(cursor, records)
            found = cursor.next()
            if found is None:
                heapq.heappop(waiting)
            else:
                heapq.heapreplace(waiting, (int(found[0].places[found[1]]["time"]), name))
        return records

    def _take(self, cursor: _Cursor, records: list[Record]) -> None:
        found = cursor.next()
        assert found is not None
        segment, at = found
        try:
            records.append(record_of(segment.entry(at), cursor.name, cursor.seq()))
        except (CannotGetObjectError, CodecError):
            self._lost[cursor.name] = self._lost.get(cursor.name, 0) + 1
        cursor.at += 1

    def _found(self) -> list[tuple[_Cursor, tuple[LogSegment, int]]]:
        found = [(cursor, cursor.next()) for cursor in self._cursors.values()]
        return [(cursor, place) for cursor, place in found if place is not None]

    def _wait(self, deadline_s: float) -> bool:
        """Check for more entries; return whether there are any. Raises EndOfSource at the end."""
        while True:
            self._catch_up()
            if self._found():
                return True
            if not self.follow:
                raise EndOfSource(f"{self.path}: no more records")
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(left_s, _POLL_S))

    def _due(self, when: int) -> float:
        if self.speed is None:
            return 0.0
        if self._began is None:
            self._began = time.monotonic(), when
        began_s, first = self._began
        return began_s + (when - first) / 1e9 / self.speed

    def _catch_up(self) -> None:
        with os.scandir(self.path) as entries:
            for name in sorted(entry.name for entry in entries if entry.is_dir()):
                if name not in self._cursors and fnmatchcase(name, self.channels):
                    self._cursors[name] = _Cursor(name, LogChannel(self.path / name))
        for cursor in self._cursors.values():
            cursor.log.catch_up()

    def position(self) -> dict[str, Any]:
        """Return, for each channel, the file and the number of its entries that were returned."""
        return {name: [cursor.stem, cursor.at] for name, cursor in self._cursors.items()}

    def seek(self, position: Any) -> None:
        """Continue from a position. Raises TypeError, ValueError if it is invalid."""
        if not isinstance(position, Mapping):
            raise TypeError(f"a position is a mapping of channels, not {position!r:.80}")
        for name, (stem, at) in position.items():
            cursor = self._cursors.get(name)
            if cursor is not None:
                cursor.stem, cursor.at = str(stem), int(at)
        for name in self._cursors.keys() - position.keys():
            self._cursors[name].stem, self._cursors[name].at = "", 0
        self._began = None

    def commit(self, position: Any) -> None:
        """Write the position into the state file, completely or not at all."""
        if self.state is None:
            return
        self.state.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.state, json.dumps(position).encode())

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many entries of each channel were damaged."""
        return dict(self._lost)

    def lag(self) -> int:
        """Return how many entries have not been returned yet."""
        return sum(
            len(segment.places) - (cursor.at if stem == cursor.stem else 0)
            for cursor in list(self._cursors.values())
            for stem, segment in list(cursor.log.segments.items())
            if stem >= cursor.stem
        )

    def close(self) -> None:
        """Close the files."""
        for cursor in self._cursors.values():
            cursor.log.close()
        self._cursors = {}
