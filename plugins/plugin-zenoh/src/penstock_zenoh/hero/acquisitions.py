"""Acquisitions of HEROs, from `acquisition_started` to `acquisition_stopped`, and their completeness."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

_MOST_RANGES = 1000


@attrs.define(eq=False)
class Acquisition:
    """The counts of one acquisition of one HERO.

    Attributes:
        hero: The HERO's name, and its realm.
        number: Index of the acquisition among those of this HERO since the source was opened, from 0.
        configuration: The data of `acquisition_started`.
        started_ns: Arrival time of that event in UNIX nanoseconds, or 0 if it did not arrive; `stopped_ns` is that of
            `acquisition_stopped`, or 0.
        expected: Number of announced frames; None if it was not announced.
        emitted: Number of frames that the HERO reports as sent.
        arrived: Number of records that arrived.
        lost: Number of records found missing by `sequence_key`.
        dead_lettered: Number of records that arrived and could not be stored.
        first: The mark before its first record; `last` is that of its newest record.
        durable: Number of its durable records; None if the run never reported it.
        seen: Ranges of arrived numbers, each [first, last].
    """

    hero: str
    realm: str
    number: int
    configuration: Mapping[str, Any]
    started_ns: int
    first: int
    stopped_ns: int = 0
    expected: int | None = None
    emitted: int | None = None
    arrived: int = 0
    lost: int = 0
    dead_lettered: int = 0
    durable: int | None = None
    seen: list[list[int]] = attrs.field(factory=list)
    is_reported: bool = False
    marks: list[int] = attrs.field(factory=list)

    def take(self, frame: int | None, mark: int) -> None:
        """Count an arrived record, with its number if it has one."""
        self.arrived += 1
        self.marks.append(mark)
        if frame is None:
            return
        if self.seen and frame == self.seen[-1][1] + 1:
            self.seen[-1][1] = frame
        elif len(self.seen) < _MOST_RANGES:
            self.seen.append([frame, frame])

    def take_following(self, frames: Sequence[Any], mark: int) -> None:
        """Count arrived records whose numbers follow on one another, or that all have none."""
        self.take(frames[0], mark)
        self.arrived += len(frames) - 1
        self.marks += [mark] * (len(frames) - 1)
        if frames[0] is not None and self.seen and self.seen[-1][1] == frames[0]:
            self.seen[-1][1] = frames[-1]

    @property
    def stored(self) -> int | None:
        """Return how many of its records are stored; None if the run has not reported it."""
        return None if self.durable is None else max(0, self.durable - self.dead_lettered)

    @property
    def complete(self) -> bool:
        """Return whether it ended and all announced or sent records were stored."""
        wanted = self.emitted if self.emitted is not None else self.expected
        stored = self.arrived if self.stored is None else self.stored
        announced = self.expected is None or self.expected == wanted
        return bool(self.stopped_ns) and wanted is not None and announced and stored == self.arrived == wanted

    def missing(self) -> list[list[int]] | None:
        """Return the ranges of numbers that never arrived, each [first, last]; None if they are unknown."""
        wanted = self.emitted if self.emitted is not None else self.expected
        if wanted is None or not self.seen or wanted == self.arrived:
            gaps = _between(self.seen)
            return gaps if wanted == self.arrived or gaps else None
        for base in (0, 1):  # HEROs count from either
            gaps = _between([[base - 1, base - 1], *self.seen, [base + wanted, base + wanted]])
            if sum(last - first + 1 for first, last in gaps) == wanted - self.arrived:
                return gaps
        return None

    def as_data(self) -> dict[str, Any]:
        """Return its account as plain data."""
        return {
            "hero": self.hero,
            "realm": self.realm,
            "acquisition": self.number,
            "started_ns": self.started_ns or None,
            "stopped_ns": self.stopped_ns or None,
            "configuration": dict(self.configuration),
            "expected": self.expected,
            "emitted": self.emitted,
            "arrived": self.arrived,
            "stored": self.stored,
            "dead_lettered": self.dead_lettered,
            "missing": self.missing(),
            "complete": self.complete,
        }

    def summary(self) -> str:
        """Return its account in one sentence."""
        figures = ", ".join(
            f"{name} {'?' if (value := getattr(self, name)) is None else value}"
            for name in ("expected", "emitted", "arrived", "stored")
        )
        ranges = self.missing()
        gaps = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in (ranges or [])[:10])
        missing = f", missing {gaps}{' …' if len(ranges or ()) > 10 else ''}" if gaps else ""
        end = ", no start event arrived" if not self.started_ns else ""
        end += ", no stop event arrived" if not self.stopped_ns else ""
        verdict = "complete" if self.complete else "not complete"
        return f"acquisition {self.number} of HERO {self.hero!r}: {figures}{missing}{end}: {verdict}"


class Acquisitions:
    """The acquisitions of all HEROs of a source. Thread-safe: dead letters are counted from other threads.

    Frames outside an acquisition are counted too: if a stop event with a count follows, they belong to an acquisition
    whose start event did not arrive, because it was lost or the source was opened later.
    """

    def __init__(self) -> None:
        self.all: list[Acquisition] = []
        self._current: dict[str, Acquisition] = {}
        self._outside: dict[str, Acquisition] = {}
        self._lock = threading.Lock()

    def started(self, channel: str, acquisition: Acquisition) -> None:
        """Begin an acquisition; this ends the previous one if its stop event did not arrive."""
        with self._lock:
            self._outside.pop(channel, None)
            self._current[channel] = acquisition
            self.all.append(acquisition)

    def stopped(self, channel: str, realm: str, said: Mapping[str, Any], time_ns: int) -> int:
        """End an acquisition; return how many records are missing beyond the counted gaps."""
        with self._lock:
            acquisition, outside = self._current.pop(channel, None), self._outside.pop(channel, None)
            emitted, expected = count_of(said.get("frame_count")), count_of(said.get("frames"))
            if acquisition is None:
                if outside is None or (emitted is None and expected is None):
                    return 0
                acquisition, outside.realm = outside, realm
                self.all.append(acquisition)
            acquisition.stopped_ns = time_ns
            acquisition.emitted = emitted
            acquisition.expected = acquisition.expected or expected
            if not acquisition.started_ns:
                return 0  # frames before the source was opened are missing, and not lost
            wanted = acquisition.expected if acquisition.emitted is None else acquisition.emitted
            missing = max(0, (wanted or 0) - acquisition.arrived - acquisition.lost)
            acquisition.lost += missing
            return missing

    def current(self, channel: str) -> Acquisition | None:
        """Return the current acquisition."""
        return self._current.get(channel)

    def counting(self, channel: str, mark: int, *, is_new: bool = False) -> Acquisition:
        """Return the current acquisition, or the count of frames outside one, a new one if they are a new series."""
        found = self._current.get(channel) or (None if is_new else self._outside.get(channel))
        if found is None:
            with self._lock:
                found = self._outside[channel] = Acquisition(channel, "", self.count(channel), {}, 0, mark)
        return found

    def count(self, channel: str) -> int:
        """Return how many acquisitions have begun."""
        return sum(each.hero == channel for each in self.all)

    def durable(self, mark: int) -> list[Acquisition]:
        """Record that everything before `mark` is stored; return the acquisitions completed since the last call."""
        with self._lock:
            for each in (*self.all, *self._outside.values()):
                if not each.is_reported:
                    done = sum(one <= mark for one in each.marks)
                    each.durable = (each.durable or 0) + done
                    del each.marks[:done]
            over = [each for each in self.all if each.stopped_ns and not each.marks and not each.is_reported]
            for each in over:
                each.is_reported = True
            return over

    def left(self) -> list[Acquisition]:
        """Return, at the end, the acquisitions that have not been reported."""
        with self._lock:
            over = [each for each in self.all if not each.is_reported]
            for each in over:
                each.is_reported = True
            return over

    def dead_lettered(self, channel: str) -> None:
        """Count a record of this channel that could not be stored."""
        with self._lock:
            for each in (*self.all, *self._outside.values()):
                if each.hero == channel and not each.is_reported:
                    each.dead_lettered += 1
                    return


def count_of(value: Any) -> int | None:
    """Return a count from a HERO's event, or None if it is not a count."""
    return value if type(value) is int and 0 <= value < 1 << 62 else None


def _between(ranges: list[list[int]]) -> list[list[int]]:
    """Return the gaps between consecutive ranges."""
    return list(_gaps(ranges))


def _gaps(ranges: list[list[int]]) -> Iterator[list[int]]:
    for before, after in itertools.pairwise(ranges):
        if after[0] > before[1] + 1:
            yield [before[1] + 1, after[0] - 1]
