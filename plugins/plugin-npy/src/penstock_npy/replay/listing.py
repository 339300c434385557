"""The files of a source, their order, and its progress in them."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from penstock.errors import SourceError
from penstock_npy.replay.journal import Journal
from penstock_npy.replay.kinds import has_more, is_whole
from penstock_npy.replay.known import Known
from penstock_npy.replay.order import field_of, natural, rank
from penstock_npy.replay.selection import Selection
from penstock_npy.replay.watch import Watch

_LOOK_AGAIN_S = 0.05
_LIST_AGAIN_S = 30.0
"""Seconds between listings of a watched directory: the system may lose reports."""
Place = tuple[int, int]


@attrs.define(eq=False)
class _Unripe:
    """A file that may still be written to."""

    state: tuple[int, int]
    since_s: float
    is_whole: bool


@attrs.define(eq=False, kw_only=True)
class Listing:
    """Number files in their order as they come, and keep the progress in them.

    All files below `next` have been returned; of those with parts (lines, frames), as many as `parts` says.
    """

    path: str
    order_by: str
    follow: bool
    poll_s: float | None
    settle_s: float
    min_age_s: float
    state: Path | None
    changed: threading.Event = attrs.field(factory=threading.Event, init=False)
    selection: Selection = attrs.field(init=False)
    known: Known = attrs.field(default=None, init=False)
    numbers: dict[str, int] = attrs.field(factory=dict, init=False)
    next: int = attrs.field(default=0, init=False)
    parts: dict[str, Place] = attrs.field(factory=dict, init=False)
    _queue: deque[str] = attrs.field(factory=deque, init=False)
    _journal: Journal | None = attrs.field(default=None, init=False)
    _watch: Watch | None = attrs.field(default=None, init=False)
    _unripe: dict[str, _Unripe] = attrs.field(factory=dict, init=False)
    _listed_s: float = attrs.field(default=0.0, init=False)

    def open(self) -> None:
        """List the files. Raises SourceError, StoreError if another source has the state, or OSError."""
        self.selection = Selection.of(self.path)
        if not self.selection.root.is_dir():
            raise SourceError(f"{self.selection.root} is not a directory: use that of the files", retryable=False)
        self.known = Known.of(self.selection)
        if self.follow and self.poll_s is None:
            self._watch = Watch(self.selection.root, self.changed)
            self._watch.start()
        there = self._names()
        if self.state is not None:
            self._journal = Journal(self.state)
            self._journal.open()
            self._journal.forget_gone(there)
            self.numbers = dict(self._journal.names)
        self._number(there)
        if self._journal is not None:
            self._go_on(self._journal.next, {name: (part, at) for name, (part, at) in self._journal.parts.items()})

    def head(self) -> str | None:
        """Return the next file, or None."""
        return self._queue[0] if self._queue else None

    def finish(self, name: str, place: Place | None) -> None:
        """Note that the next file was returned completely; or up to a place, if it has parts."""
        assert self._queue[0] == name
        self._queue.popleft()
        if place is not None:
            self.parts[name] = place
        if self.numbers[name] == self.next:
            self.next += 1

    def look(self) -> bool:
        """Check for new files and files that have grown; return whether there is a next file.

        Raises SourceError if the directory is gone, or OSError.
        """
        names: set[str] = set(self._unripe)
        if self.follow:
            changed = self._watch.take() if self._watch is not None else set()
            every_s = _LIST_AGAIN_S if self.poll_s is None else self.poll_s
            if changed is None or time.monotonic() - self._listed_s >= every_s:
                names |= self._names()
            else:
                names |= self._named(changed)
            self._queue_grown(names)
        self._number(names)
        return bool(self._queue)

    @property
    def waits(self) -> bool:
        """Whether there are files that may still be written to."""
        return bool(self._unripe)

    def rest_s(self) -> float:
        """Return the seconds until the next check, if no change is reported."""
        if self._unripe:
            return _LOOK_AGAIN_S
        every_s = _LIST_AGAIN_S if self.poll_s is None else self.poll_s
        return max(0.0, self._listed_s + every_s - time.monotonic()) if self.follow else _LOOK_AGAIN_S

    def waiting(self) -> int:
        """Return the number of files that are left."""
        return len(self._queue)

    def position(self) -> dict[str, Any]:
        """Return the position. Without a state it has the names of the files, in their order."""
        position: dict[str, Any] = {"next": self.next, "parts": dict(self.parts)}
        if self._journal is None:
            position["names"] = tuple(name for name, number in self.numbers.items() if number < self.next)
        return position

    def seek(self, position: Any) -> None:
        """Continue from a position. Raises TypeError, ValueError if it is not one of this source."""
        if not isinstance(position, Mapping) or not {"next", "parts"} <= position.keys():
            raise TypeError(f"a position has the keys 'next' and 'parts', unlike {position!r:.80}")
        if ("names" in position) != (self._journal is None):
            raise ValueError("the position is one of a source with another setting of `state`")
        parts = {str(name): (int(part), int(at)) for name, (part, at) in position["parts"].items()}
        if self._journal is None:
            given = dict.fromkeys(map(str, position["names"]))
            names = [*given, *(name for name in self.numbers if name not in given)]
            self.numbers = {name: number for number, name in enumerate(names)}
        if int(position["next"]) > len(self.numbers) and self._journal is None:
            raise ValueError("the position names fewer files than it counts")
        self._go_on(int(position["next"]), parts)

    def commit(self, position: Any) -> None:
        """Write a position to the state, if there is one. Raises OSError."""
        if self._journal is not None:
            self._journal.commit(position["next"], {name: list(place) for name, place in position["parts"].items()})

    def close(self) -> None:
        """Close everything, any number of times."""
        if self._watch is not None:
            self._watch.stop()
        if self.known is not None:
            self.known.close()
        if self._journal is not None:
            self._journal.close()

    def _go_on(self, next_number: int, parts: dict[str, Place]) -> None:
        self.next, self.parts = next_number, parts
        self._queue.clear()
        self._queue_grown(parts)
        rest = [(number, name) for name, number in self.numbers.items() if number >= next_number]
        self._queue.extend(name for _, name in sorted(rest))

    def _queue_grown(self, names: Iterable[str]) -> None:
        """Queue files with parts that were returned partly, and have more now."""
        for name in names:
            place = self.parts.get(name)
            if place is None or name in self._queue or self.numbers.get(name, self.next) >= self.next:
                continue
            try:
                if has_more(self.selection.root / name, place):
                    self._queue.append(name)
                    self.known.forget_lines()
            except OSError:
                continue  # it is gone: all of its committed records were returned

    def _names(self) -> set[str]:
        self._listed_s = time.monotonic()
        own = None if self.state is None else os.path.abspath(self.state)
        try:
            return {name for name in self.selection.names() if own != os.path.abspath(self.selection.root / name)}
        except OSError as error:
            raise SourceError(f"{self.selection.root} cannot be listed: {error}") from error

    def _named(self, changed: Iterable[str]) -> set[str]:
        """Return the files that are data among those that changed, and those in directories that came."""
        names = {name for name in changed if self.selection.has(name)}
        for name in changed:
            if name not in names and (self.selection.root / name).is_dir():
                names |= set(self.selection.below(name))
        return names

    def _number(self, names: Iterable[str]) -> None:
        """Number files without a number, in their order, and queue them; those that are still being written wait."""
        new = [name for name in names if name not in self.numbers and self._is_ripe(name)]
        if not new:
            return
        new.sort(key=self._rank)
        count = len(self.numbers) if self._journal is None else self._journal.count
        numbers = {name: number for number, name in enumerate(new, count)}
        if self._journal is not None:
            self._journal.number(numbers)
        self.numbers.update(numbers)
        self._queue.extend(new)

    def _is_ripe(self, name: str) -> bool:
        path = self.selection.root / name
        try:
            status = path.stat()
        except FileNotFoundError:
            self._unripe.pop(name, None)
            return False
        except OSError:
            return True  # reading it reports the problem
        state = status.st_size, status.st_mtime_ns
        quiet_s = (time.time_ns() - status.st_mtime_ns) / 1e9
        seen = self._unripe.pop(name, None)
        if quiet_s >= max(self.settle_s, self.min_age_s):
            return True
        now_s = time.monotonic()
        if seen is None or seen.state != state:
            try:
                seen = _Unripe(state, now_s, is_whole(path))
            except OSError:
                return True
        quiet_s = max(quiet_s, now_s - seen.since_s)  # clocks of file servers may be ahead
        if quiet_s >= self.min_age_s and (seen.is_whole or quiet_s >= self.settle_s):
            return True
        self._unripe[name] = seen
        return False

    def _rank(self, name: str) -> tuple[Any, ...]:
        by_name = tuple(natural(part) for part in name.split("/")), name
        if self.order_by == "name":
            return by_name
        try:
            status = (self.selection.root / name).stat()
            if self.order_by == "mtime":
                return (0, status.st_mtime_ns), *by_name
            fields = self.known.of_file(name, status)
            return rank(field_of(self.known.from_name(name) if fields is None else fields, self.order_by)), *by_name
        except (KeyError, ValueError, OSError):
            return (3,), *by_name  # it is refused when it is its turn
