"""The account of a HERO source: counts of events and acquisitions, and the account files."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penstock.errors import SourceError
from penstock.whole_files import write_whole
from penstock_zenoh.hero.acquisitions import Acquisition, Acquisitions, count_of
from penstock_zenoh.hero.event import data_and_metadata
from penstock_zenoh.hero.frames import Frames

_MOST_SENTENCES = 20


class Account:
    """Count the events of all HEROs of one source."""

    def __init__(self, *, index: Path | None = None, sequence_key: str | None = None) -> None:
        self._index = index
        self._key = sequence_key
        self._frames: dict[tuple[str, str], Frames] = {}
        self._numbers: Counter[str] = Counter()
        self._owner: dict[str, str] = {}
        self._lost: Counter[str] = Counter()
        self._restarts: Counter[str] = Counter()
        self._acquisitions = Acquisitions()

    def __reduce__(self) -> tuple[type[Account], tuple[()]]:
        return Account, ()  # a copy of a source in another process counts from 0

    def bound(self, channel: str, realm: str, value: Any, time_ns: int, *, mark: int, is_start: bool) -> None:
        """Begin or end an acquisition. Raises HeroEventError for an invalid value."""
        data, said = data_and_metadata(value, "pair")
        said = {**said, **data} if isinstance(data, Mapping) else said
        if not is_start:
            if missing := self._acquisitions.stopped(channel, realm, said, time_ns):
                self._lost[channel] += missing
            return
        for (hero, _), frames in self._frames.items():
            if hero == channel:
                frames.begin()
        number = self._acquisitions.count(channel)
        begun = Acquisition(channel, realm, number, said, time_ns, mark, expected=count_of(said.get("frames")))
        self._acquisitions.started(channel, begun)

    def take(
        self, channel: str, event: str, metadata: Mapping[str, Any], *, mark: int, is_frame: bool = True
    ) -> tuple[int, bool]:
        """Count an event, and a frame for its acquisition; return its `seq`, and whether it continues the last one."""
        frames = self._frames.get((channel, event))
        if frames is None:
            frames = self._frames[channel, event] = Frames(self._key)
        restarts = frames.restarts
        seq, number, missing, continues = frames.take(metadata)
        is_new = frames.restarts > restarts
        if is_new:
            self._restarts[channel] += 1
        acquisition = self._acquisitions.counting(channel, mark - 1, is_new=is_new) if is_frame else None
        if missing:
            self._lost[channel] += missing
            if acquisition is not None:
                acquisition.lost += missing
        if acquisition is not None:
            acquisition.take(number, mark)
        if self._owner.setdefault(channel, event) != event or seq < self._numbers[channel]:
            return self.number(channel), continues
        self._numbers[channel] = seq + 1
        return seq, continues

    def take_all(
        self, channel: str, event: str, metadata: Sequence[Mapping[str, Any]], *, mark: int, is_frame: bool = True
    ) -> list[tuple[int, bool]]:
        """Count events that arrived together; return for each as `take` does. One step if their counts follow on."""
        frames = self._frames.get((channel, event))
        if frames is not None and self._owner.get(channel) == event:
            key = self._key
            numbers = [None] * len(metadata) if key is None else [each.get(key) for each in metadata]
            if frames.next_seq >= self._numbers[channel] and (seqs := frames.take_following(numbers)) is not None:
                self._numbers[channel] = seqs.stop
                if is_frame:
                    self._acquisitions.counting(channel, mark - 1).take_following(numbers, mark)
                return [(seq, True) for seq in seqs]
        return [self.take(channel, event, each, mark=mark, is_frame=is_frame) for each in metadata]

    def number(self, channel: str) -> int:
        """Return the next number of a channel."""
        self._numbers[channel] += 1
        return self._numbers[channel] - 1

    def configuration(self, channel: str) -> Mapping[str, Any]:
        """Return the configuration with which the current acquisition was started."""
        acquisition = self._acquisitions.current(channel)
        return {} if acquisition is None else acquisition.configuration

    def lost(self) -> Mapping[str, int]:
        """Return how many events of each channel are known to be missing."""
        return dict(self._lost)

    def notes(self) -> list[str]:
        """Return a sentence for each complete acquisition."""
        return _bounded([each.summary() for each in list(self._acquisitions.all) if each.complete])

    def remark(self) -> str:
        """Return the incomplete acquisitions and the restarted counts as text."""
        said = _bounded([each.summary() for each in list(self._acquisitions.all) if not each.complete])
        said += [
            f"the count {self._key!r} of HERO {channel!r} restarted {count} times (or two HEROs have this name)"
            for channel, count in list(self._restarts.items())
        ]
        return "; ".join(said)

    def durable(self, mark: int) -> None:
        """Record that everything before `mark` is stored; write the accounts of completely stored acquisitions."""
        for acquisition in self._acquisitions.durable(mark):
            self._write(acquisition)

    def given_up(self, channel: str) -> None:
        """Count a record of this channel that was not stored."""
        self._acquisitions.dead_lettered(channel)

    def close(self, name: str) -> None:
        """Write the remaining accounts. Raises SourceError if an acquisition is incomplete."""
        for acquisition in self._acquisitions.left():
            self._write(acquisition)
        wrong = [each.summary() for each in self._acquisitions.all if not each.complete]
        if wrong:
            raise SourceError(f"{name}: {'; '.join(wrong[:_MOST_SENTENCES])}", retryable=False)

    def _write(self, acquisition: Acquisition) -> None:
        """Write an account atomically to a new file."""
        if self._index is None:
            return
        self._index.mkdir(parents=True, exist_ok=True)
        began = datetime.fromtimestamp((acquisition.started_ns or acquisition.stopped_ns) / 1e9, UTC).strftime(
            "%Y%m%dT%H%M%S.%fZ"
        )
        plain = re.sub(r"[^\w.-]+", "-", acquisition.hero).strip(".-")[:100] or "hero"
        path = self._index / f"{plain}-{began}-{acquisition.number:04d}.json"
        write_whole(path, json.dumps(acquisition.as_data(), indent=2, default=str).encode())


def _bounded(sentences: list[str]) -> list[str]:
    more = len(sentences) - _MOST_SENTENCES
    return sentences if more <= 0 else [*sentences[:_MOST_SENTENCES], f"and {more} more acquisitions"]
