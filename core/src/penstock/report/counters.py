"""Counters: the numbers of records of one component, by outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

from penstock.component import Remark
from penstock.fields import SeveralChannels, channels_of
from penstock.record import Record
from penstock.report.latency import Latency


@attrs.define(eq=False)
class Counters:
    """The counters of one instance of a component. Written by its lane only; any thread may read them.

    Attributes:
        received: Records that a source returned, by channel.
        records_in: Records that the component received.
        passed: Records with at least one result.
        extra: Results beyond one for each passed record (several of one, or from `flush`).
        discarded: Records without a result, by channel.
        thinned: Records whose content a decoder skipped, as its settings define, by channel.
        buffered: Records that it kept, whose content is emitted with that of others.
        skipped, failed: Records that failed for good under `on_error` "skip" and "stop", by channel.
        dead_lettered: Records that were written to the dead letters, by channel.
        lost: Records inside it when the run was aborted, or that even the dead letters refused.
        stored: Records that a store wrote, by channel.
        retries: How often a call was repeated.
        syncs: How often a store was synced.
        restarts: How often its process died and another was started.
        reopened: Number of times that a source was closed and reopened after an error.
        first_error, last_error: The error of the first record that failed for good, and the last error of any call.
        remarks: Facts that a user should know although nothing failed, each once, in order.
    """

    received: Counter[str] = attrs.field(factory=Counter)
    records_in: int = 0
    passed: int = 0
    extra: int = 0
    discarded: Counter[str] = attrs.field(factory=Counter)
    thinned: Counter[str] = attrs.field(factory=Counter)
    buffered: int = 0
    skipped: Counter[str] = attrs.field(factory=Counter)
    failed: Counter[str] = attrs.field(factory=Counter)
    dead_lettered: Counter[str] = attrs.field(factory=Counter)
    lost: int = 0
    stored: Counter[str] = attrs.field(factory=Counter)
    data_bytes: int = 0
    retries: int = 0
    syncs: int = 0
    restarts: int = 0
    reopened: int = 0
    first_error: str = ""
    last_error: str = ""
    remarks: dict[Remark, None] = attrs.field(factory=dict)
    work: Latency = attrs.field(factory=Latency)
    latency: Latency = attrs.field(factory=Latency)

    def count_buffered_as(self, outcome: Counter[str], channel: str, count: int) -> None:
        """Count records of a channel, which were counted as buffered when they arrived, under their outcome."""
        count = min(count, self.buffered)
        self.buffered -= count
        outcome[channel] += count

    def replace_remarks(self, before: Iterable[Remark], now: Iterable[Remark]) -> None:
        """Put remarks in the place of earlier ones, whose numbers may have changed."""
        for remark in before:
            self.remarks.pop(remark, None)
        self.remarks.update(dict.fromkeys(now))


def count_channels(counter: Counter[str], records: Sequence[Record]) -> None:
    """Count records by channel."""
    if not records:
        return
    if type(records) is SeveralChannels:
        counter.update(records.counts)
        return
    channels = channels_of(records)
    if len(channels) == 1:
        counter[channels.pop()] += len(records)
    else:
        counter.update([record.channel for record in records])
