"""Naming: the channel and seq of the results of processors and decoders, so that no two records share a name."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, chain, islice
from operator import add
from typing import Final

import msgspec

from penstock.errors import RunError
from penstock.fields import OneChannel, SeveralChannels, channels_of, like
from penstock.identity import MOST_PARTS, digest_number, first_parts, part_number, part_numbers
from penstock.record import Record
from penstock.run.steps.results import Listed
from penstock.run.steps.seq_runs import SeqRuns

_replace = msgspec.structs.replace

_REMEMBERED: Final = 2048
"""The most packets whose frames a decoder may still return; older packets have no more frames."""


class Naming:
    """Name the results of one step by the records that they are made from. Used by the thread of its lane.

    Each worker of a node has a Naming, and they share their memory, so that names are unique among all of them.

    A single result of a record keeps its number. Several in one channel are numbered as its parts. A processor may
    set another channel or seq for a single result, as long as it does not set the same twice.
    """

    def __init__(self, where: str, report: Callable[[str, BaseException], None]) -> None:
        self._where = where
        self._tell = report
        self._seen: dict[str, SeqRuns] = {}
        self._given: dict[tuple[str, str, int], int] = {}
        self._into: set[str] = set()
        self._reported: set[str] = set()
        self._lock = threading.Lock()
        self._last = ("", 0)
        self._late = 0

    def share(self, other: Naming) -> None:
        """Share the memory of the naming of another worker of the node from now on."""
        self._seen, self._into, self._reported, self._lock = other._seen, other._into, other._reported, other._lock

    def each(self, records: Sequence[Record], results: list[Record], *, same: bool) -> list[Record]:
        """Name one result for each record; they are the `same` if each is known to have the name of its record."""
        first, last = records[0], records[-1]
        channel = last.channel
        self._last, self._late = (channel, last.seq), 0
        if first.discontinuity:  # a source that was reopened may return the same records again
            self._seen.clear()
        if same and type(records) is OneChannel and channel not in self._into:  # nearly always
            with self._lock:
                self._numbers(channel).cover(min(first.seq, last.seq), max(first.seq, last.seq) + 1)
            return results
        channels = channels_of(records)
        if (same or self._keep_names(records, results, channels)) and self._into.isdisjoint(channels):
            self._note_passed(records, channels)
            if same:
                return results
            return OneChannel(results) if len(channels) == 1 else like(records, results)
        return [self._one(record, result) for record, result in zip(records, results, strict=True)]

    def _keep_names(self, records: Sequence[Record], results: Sequence[Record], channels: set[str]) -> bool:
        if [record.seq for record in records] != [result.seq for result in results]:
            return False
        if len(channels) == 1:
            return {result.channel for result in results} == channels
        return [record.channel for record in records] == [result.channel for result in results]

    @property
    def keeps_all(self) -> bool:
        """Whether no component has chosen a name so far: then a result with the name of its record keeps it."""
        return not self._into

    def _note_passed(self, records: Sequence[Record], channels: set[str]) -> None:
        """Store unchanged names, as one range of numbers for each channel of the list."""
        firsts: Mapping[str, int]
        lasts: Mapping[str, int]
        if len(channels) == 1:
            firsts = {records[0].channel: records[0].seq}
            lasts = {records[0].channel: records[-1].seq}
        elif type(records) is SeveralChannels:
            firsts, lasts = records.firsts, records.lasts
        else:
            firsts = {record.channel: record.seq for record in reversed(records)}
            lasts = {record.channel: record.seq for record in records}
        with self._lock:
            for channel, last in lasts.items():
                self._numbers(channel).cover(min(firsts[channel], last), max(firsts[channel], last) + 1)

    def _numbers(self, channel: str) -> SeqRuns:
        seen = self._seen.get(channel)
        if seen is None:
            seen = self._seen[channel] = SeqRuns()
        return seen

    def several(self, record: Record, results: list[Record]) -> list[Record]:
        """Name all the results of one record."""
        self._last, self._late = (record.channel, record.seq), 0
        if record.discontinuity:  # as above
            self._seen.clear()
        if len(results) == 1:
            return [self._one(record, results[0])]
        channels = [result.channel or record.channel for result in results]
        counts = Counter(channels)
        numbers = {
            channel: iter(part_numbers(record.channel, record.seq, count))
            for channel, count in counts.items()
            if count > 1
        }
        named: list[Record] = []
        for channel, result in zip(channels, results, strict=True):
            if channel not in numbers:
                named.append(self._one(record, result))
            elif channel == record.channel:
                named.append(self._new(record, result, channel, next(numbers[channel])))
            else:
                named.append(self._chosen(record, result, channel, next(numbers[channel])))
        return named

    def expanded(self, listed: Listed) -> list[Record] | None:
        """Name the results of many records, as `several` does for each; None if one of them takes a look of its own."""
        records, counts, results = listed.parents, listed.counts, listed.records
        channel = records[0].channel
        restarts = [record.discontinuity for record in records]
        if type(records) is not OneChannel or channel in self._into or any(restarts):
            return None
        channels = {result.channel for result in results}
        numbers = [record.seq for record in records]
        firsts = first_parts(numbers)
        if not channels <= {channel, ""} or firsts is None or max(counts) > MOST_PARTS:
            return None
        if 1 in counts:  # a single result keeps the number of its record
            singles = [
                (results[end - 1], seq)
                for end, count, seq in zip(accumulate(counts), counts, numbers, strict=True)
                if count == 1
            ]
            if any(result.seq not in (0, seq) for result, seq in singles):
                return None
            firsts = [seq if count == 1 else first for first, count, seq in zip(firsts, counts, numbers, strict=True)]
        ends = list(map(add, firsts, counts))
        with self._lock:
            self._numbers(channel).cover_each(firsts, ends)
        self._last, self._late = (channel, numbers[-1]), 0
        named = zip(results, chain.from_iterable(map(range, firsts, ends)), strict=True)
        if "" in channels:
            return OneChannel([_replace(result, channel=channel, seq=seq) for result, seq in named])
        return OneChannel([result if result.seq == seq else _replace(result, seq=seq) for result, seq in named])

    def late(self, results: list[Record]) -> list[Record]:
        """Name results of no particular record; a result without a name is named after the last record taken."""
        named: list[Record] = []
        for result in results:
            channel, seq = result.channel, result.seq
            if not channel and not seq:
                channel, seq = self._last[0], digest_number("late", *self._last, self._late)
                self._late += 1
            named.append(self._chosen(result, result, channel, seq))
        return named

    def frames(self, packet: Record | None, frames: list[Record]) -> list[Record]:
        """Name the results of a decoder by the packets that they are made from: the parents, or else `packet`."""
        if packet is not None and packet.discontinuity:
            self._given.clear()
        keys = []
        for frame in frames:
            parent = frame.parent or packet or frame
            keys.append((frame.channel or parent.channel, parent.channel, parent.seq))
        counts = Counter(keys)
        named: list[Record] = []
        for key, frame in zip(keys, frames, strict=True):
            channel, of_channel, seq = key
            given = self._given.get(key, 0)
            self._given[key] = given + 1
            if given or counts[key] > 1:
                seq = part_number(of_channel, seq, given)
            same = frame.channel == channel and frame.seq == seq
            named.append(frame if same else frame.replace(channel=channel, seq=seq))
        if len(self._given) > _REMEMBERED:
            for key in list(islice(self._given, _REMEMBERED // 2)):
                del self._given[key]
        return named

    def _one(self, record: Record, result: Record) -> Record:
        channel, seq = result.channel or record.channel, result.seq or record.seq
        if channel != record.channel or seq != record.seq:
            return self._chosen(record, result, channel, seq)
        return self._new(record, result, channel, seq)

    def _chosen(self, record: Record, result: Record, channel: str, seq: int) -> Record:
        """Use the name that a component chose, or another one if it is taken."""
        self._into.add(channel)
        return self._new(record, result, channel, seq)

    def _new(self, record: Record, result: Record, channel: str, seq: int) -> Record:
        with self._lock:
            seen = self._numbers(channel)
            if not seen.add(seq) and channel in self._into:
                self._report(channel, seq)
                while not seen.add(seq):
                    seq = digest_number("again", record.channel, record.seq, channel, seq)
        return result if result.channel == channel and result.seq == seq else result.replace(channel=channel, seq=seq)

    def _report(self, channel: str, seq: int) -> None:
        if channel in self._reported:
            return
        self._reported.add(channel)
        message = (
            f"{self._where}: returned two records of the same name, channel {channel!r} and seq {seq}; the second "
            "of such records is renumbered: leave seq and channel unchanged, or use unique channel names"
        )
        self._tell(message, RunError(message))
