"""SourceContract: every promise of a source as a test to inherit."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.codec import decode, encode_bytes
from penstock.errors import EndOfSource
from penstock.fields import is_exact
from penstock.identity import COUNTED
from penstock.record import Record
from penstock.short_text import short
from penstock.source import (
    Source,
    SupportsCommit,
    SupportsDrop,
    SupportsLag,
    SupportsLoss,
    SupportsRejected,
    SupportsSeek,
    SupportsWake,
)
from penstock.testing.component_contract import ComponentContract, can, is_kind, lacks, needs
from penstock.testing.equality import assert_same_record, assert_unique
from penstock.testing.unread import bytes_taken_unread

_PATIENCE_S = 20.0
_UNREAD_BYTES = 50
"""Bytes for each record by which memory may grow outside a queue: less than any record in a queue takes."""


class SourceContract(ComponentContract):
    r"""Test a source against its contract: inherit this class, and define how your source and its records are made.

    ```python
    class TestMySource(SourceContract):
        count = 3

        def make_source(self, tmp_path):
            (tmp_path / "input.txt").write_text("a\nb\nc\n")
            return MySource(path=tmp_path / "input.txt")
    ```
    """

    count: int = 10
    """The number of records that `make_source` and `feed` together provide; at least 3."""

    ends = True
    """False for a source that waits for more records for ever (a topic, a camera)."""

    repeats = True
    """False if records that were read are not repeated after reopening (a live camera)."""

    remembers_commit = False
    """True if a new source continues after the committed records; False if it needs `seek` with the position."""

    same_seq = True
    """False if repeated records have new numbers, so that a store cannot recognise them."""

    slack_s = 0.5
    """Seconds by which `read` may exceed its `timeout_s`."""

    most_unread: int | None = 5000
    """Maximum number of records that wait in the source while it is not read; four times as many are sent to check it.

    None for a source that keeps all by design, or if the test's sender keeps unread records in this process.
    """

    def make_source(self, tmp_path: Path) -> Source:
        """Return a new source; a second call with the same directory returns the same source, to be reopened."""
        raise NotImplementedError("write make_source(self, tmp_path), which returns your source")

    def feed(self, tmp_path: Path) -> None:
        """Send `count` records; called once, after the source was opened. Does nothing for a file."""

    def make(self, tmp_path: Path) -> Source:
        """Return a new source, under the name that all contracts share."""
        return self.make_source(tmp_path)

    @contextmanager
    def opened(self, tmp_path: Path, *, feed: bool = True) -> Iterator[Any]:
        """Open the source for a block, and feed it its records."""
        source = self.make_source(tmp_path)
        try:
            source.open()
            if feed:
                self.feed(tmp_path)
            yield source
        finally:
            source.close()

    def read(self, source: Source, count: int, *, at_once: int = 1000) -> list[Record]:
        """Read until `count` records have come or the source ends; fails if this takes too long."""
        records: list[Record] = []
        ends = time.monotonic() + _PATIENCE_S
        while len(records) < count:
            try:
                found = source.read(min(at_once, count - len(records)), 0.2)
            except EndOfSource:
                break
            records.extend(found)
            assert time.monotonic() < ends, f"only {len(records)} of {count} records arrived in {_PATIENCE_S:.0f} s"
        return records

    def test_has_the_methods_of_a_source(self, tmp_path: Path) -> None:
        """It has open, read and close."""
        source = self.make_source(tmp_path)
        for name in ("open", "read", "close"):
            assert callable(getattr(source, name, None)), f"write {type(source).__name__}.{name}"

    def test_closing_twice(self, tmp_path: Path) -> None:
        """After open, close may be called any number of times, also before all records were read."""
        source = self.make_source(tmp_path)
        source.open()
        source.close()
        source.close()

    def test_gives_all_its_records(self, tmp_path: Path) -> None:
        """It returns `count` records, each a Record with a text channel and plain numbers."""
        with self.opened(tmp_path) as source:
            records = self.read(source, self.count)
        self._assert_count(records, self.count)
        for record in records:
            assert isinstance(record, Record), f"{type(record).__name__} is not a Record"
            assert isinstance(record.channel, str), f"channel {record.channel!r} is not a str"
            assert type(record.seq) is int, f"seq {record.seq!r} is not an int: convert it with int()"
            assert type(record.time_ns) is int, f"time_ns {record.time_ns!r} is not an int: convert it with int()"

    def test_its_records_can_be_written_and_read(self, tmp_path: Path) -> None:
        """Every field of a record has the type that `Record` declares, and is the same when written and read back."""
        with self.opened(tmp_path) as source:
            for record in self.read(source, self.count):
                assert is_exact(record), f"a field of {record!r:.200} does not have the type that Record declares"
                assert_same_record(record, decode(encode_bytes(record)))

    def test_what_it_gave_stays_as_it_was(self, tmp_path: Path) -> None:
        """The memory of a record is not reused while the record exists, unless `reuses_buffers` is True."""
        with self.opened(tmp_path) as source:
            kept: list[tuple[Record, bytes]] = []
            while len(kept) < self.count:
                found = self.read(source, 1)
                if not found:
                    break
                kept += [(record, encode_bytes(record)) for record in found]
            if getattr(source, "reuses_buffers", None):
                return
            for record, before in kept:
                assert encode_bytes(record) == before, (
                    f"record {record.seq} of channel {record.channel!r} has changed since it was returned: copy it, or "
                    "set reuses_buffers = True"
                )

    def test_counts_within_each_channel(self, tmp_path: Path) -> None:
        """`seq` increases within a channel; a gap is counted as lost or dropped, or marked with `discontinuity`.

        Computed numbers, from 10**18 on (see penstock.identity), need no order.
        """
        with self.opened(tmp_path) as source:
            records = self.read(source, self.count)
            lost = sum(source.lost_upstream().values()) if can(source, SupportsLoss) else 0
            lost += sum(source.dropped_upstream().values()) if can(source, SupportsDrop) else 0
        last: dict[str, int] = {}
        for record in records:
            if record.channel in last and max(record.seq, last[record.channel]) < COUNTED:
                said = f"channel {record.channel!r}: seq {record.seq} after {last[record.channel]}"
                assert record.seq > last[record.channel], f"{said}: number the records of each channel upwards"
                if not lost and not record.discontinuity:
                    assert record.seq == last[record.channel] + 1, (
                        f"{said}: count the gap in lost_upstream(), or set discontinuity=True on the record behind it"
                    )
            last[record.channel] = record.seq

    def test_names_each_record(self, tmp_path: Path) -> None:
        """No two records have the same (channel, seq), read at once or one by one."""
        for at_once in (1000, 1):
            with self.opened(tmp_path) as source:
                records = self.read(source, self.count, at_once=at_once)
            assert_unique(records)
            if not self.repeats:
                return

    def test_gives_what_it_says(self, tmp_path: Path) -> None:
        """Its data are of the kind declared by `gives`."""
        with self.opened(tmp_path) as source:
            gives = getattr(source, "gives", "any")
            for record in self.read(source, self.count):
                assert is_kind(record.data, gives), (
                    f"gives={gives!r}, but data is {type(record.data).__name__}: change `gives` or the data"
                )

    def test_gives_no_more_than_asked_for(self, tmp_path: Path) -> None:
        """`read` returns at most `max_records`, and returns the same records one by one as all at once."""
        with self.opened(tmp_path) as source:
            first = source.read(1, _PATIENCE_S)
            assert len(first) <= 1, f"read(1, …) returned {len(first)} records: keep the rest for the next call"
            records = [*first, *self.read(source, self.count - len(first), at_once=1)]
        self._assert_count(records, self.count)
        if not self.repeats:
            return
        with self.opened(tmp_path) as source:
            for one, other in zip(records, self.read(source, self.count), strict=True):
                assert_same_record(one, other, fields=("data", "channel", "seq", "coords"))

    def test_end(self, tmp_path: Path) -> None:
        """At the end, after all records, it raises EndOfSource, and again at each later read.

        A source that waits for more for ever returns nothing then, and does not raise.
        """
        with self.opened(tmp_path) as source:
            self._assert_count(self.read(source, self.count), self.count)
            if not self.ends:
                assert not source.read(10, 0.1), "more records than `count` says"
                return
            for _ in range(2):
                _read_to_the_end(source)

    def test_waits_no_longer_than_told(self, tmp_path: Path) -> None:
        """Without new records, `read` returns within its timeout, also if that is 0."""
        with self.opened(tmp_path, feed=False) as source:
            for timeout_s in (0.0, 0.05):
                began = time.monotonic()
                try:
                    source.read(1, timeout_s)
                except EndOfSource:
                    return
                took_s = time.monotonic() - began
                assert took_s < timeout_s + self.slack_s, (
                    f"read(1, timeout_s={timeout_s}) returned after {took_s:.2f} s: pass the timeout on to the "
                    "call that waits, or set slack_s if the driver cannot wait for less"
                )

    def test_returns_at_once_what_it_has(self, tmp_path: Path) -> None:
        """If some records are ready and more may come, `read` returns them at once, not after its timeout."""
        with self.opened(tmp_path) as source:
            missing = self.count
            while missing:
                began = time.monotonic()
                found = source.read(self.count + 1000, _PATIENCE_S)
                assert time.monotonic() - began < _PATIENCE_S / 2, f"it returned {len(found)} records at its timeout"
                assert found, "it returned nothing, long before its timeout"
                missing -= len(found)

    def test_takes_in_only_so_much_while_nobody_reads(self, tmp_path: Path) -> None:
        """While it is not read, it blocks the sender, or drops records and counts them: its memory stays bounded.

        `feed` is called in another thread, with a `count` of `most_unread`, then of four times as many.
        """
        if self.most_unread is None or type(self).feed is SourceContract.feed:
            return  # all is kept by design, or nothing can be made to come
        few = bytes_taken_unread(self, tmp_path / "few", self.most_unread)
        many = bytes_taken_unread(self, tmp_path / "many", 4 * self.most_unread)
        assert many <= 2 * few + _UNREAD_BYTES * self.most_unread, (
            f"{4 * self.most_unread} unread records took {many} bytes, {self.most_unread} took {few}: bound "
            "the queue and count what it drops, or set most_unread = None if that is by design"
        )

    @needs(SupportsSeek)
    def test_position_and_seek(self, tmp_path: Path) -> None:
        """From an earlier position it continues with the next record: none is lost or repeated."""
        assert self.repeats, "it can seek, so that records come again: set repeats = True"
        with self.opened(tmp_path) as source:
            assert not lacks(source, SupportsCommit), "it can seek, but has no position() to seek to"
            start = source.position()
            records = self.read(source, self.count // 2)
            position = source.position()
            records += self.read(source, self.count - len(records))
        with self.opened(tmp_path, feed=False) as source:
            source.seek(position)
            self._assert_same(records[self.count // 2 :], self.read(source, self.count - self.count // 2))
        with self.opened(tmp_path, feed=False) as source:
            source.seek(start)
            self._assert_same(records, self.read(source, self.count))

    @needs(SupportsSeek)
    def test_opened_again(self, tmp_path: Path) -> None:
        """The same object, closed and reopened as after an error, continues from a position like a new one."""
        with self.opened(tmp_path) as source:
            records = self.read(source, self.count // 2)
            position = source.position()
            records += self.read(source, 1)  # the run has read it, and not stored its results yet
            source.close()
            source.open()
            source.seek(position)
            again = self.read(source, self.count - self.count // 2)
        self._assert_same(records[self.count // 2 :], again[:1])
        self._assert_count(again, self.count - self.count // 2)
        with self.opened(tmp_path, feed=False) as source:
            source.seek(position)
            self._assert_same(again, self.read(source, len(again)))

    @needs(SupportsCommit)
    def test_commit(self, tmp_path: Path) -> None:
        """After reopening, all records after the commit are returned, even those that were read before it."""
        with self.opened(tmp_path) as source:
            records = self.read(source, self.count // 2)
            position = source.position()
            records += self.read(source, 1)  # while the records before it become durable
            source.commit(position)
            records += self.read(source, self.count - len(records))
        if not self.remembers_commit and lacks(self.make_source(tmp_path), SupportsSeek):
            return
        with self.opened(tmp_path, feed=False) as source:
            if not self.remembers_commit:
                source.seek(position)
            again = self.read(source, self.count - self.count // 2)
        self._assert_same(records[self.count // 2 :], again)

    @needs(SupportsCommit)
    def test_position_is_plain(self, tmp_path: Path) -> None:
        """A position is plain data that a store can write as bytes and read back."""
        with self.opened(tmp_path) as source:
            self.read(source, 2)
            assert _is_plain(source.position()), f"position {source.position()!r}: use int, str, tuples, lists, dicts"

    @needs(SupportsWake)
    def test_wake_ends_a_read_that_waits(self, tmp_path: Path) -> None:
        """`wake` makes a waiting read, or else the next one, return long before its timeout."""
        with self.opened(tmp_path) as source:
            self.read(source, self.count)
            for delay_s in (0.0, 0.2):  # before the read begins, and while it waits
                timer = threading.Timer(delay_s, source.wake)
                timer.start()
                if not delay_s:
                    timer.join()
                began = time.monotonic()
                with contextlib.suppress(EndOfSource):
                    source.read(10, _PATIENCE_S)
                timer.join()
                took_s = time.monotonic() - began
                assert took_s < _PATIENCE_S / 2, f"read() returned {took_s:.1f} s after wake()"

    def test_numbers_about_itself(self, tmp_path: Path) -> None:
        """Lag and the counts of lost and rejected records are whole numbers of at least 0, in any thread."""
        with self.opened(tmp_path) as source:
            self.read(source, 1)
            counts: list[Any] = []

            def ask() -> None:
                for ability, name in ((SupportsLag, "lag"), (SupportsRejected, "rejected")):
                    if not lacks(source, ability):
                        counts.append(getattr(source, name)())
                if not lacks(source, SupportsLoss):
                    counts.extend(source.lost_upstream().values())
                if not lacks(source, SupportsDrop):
                    counts.extend(source.dropped_upstream().values())
                counts.append(0)

            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
            assert counts, "it raised in a thread other than the one that reads"
            wrong = [count for count in counts if type(count) is not int or count < 0]
            assert not wrong, f"it counts {short(wrong[0])}, expected an int of 0 or more: return counters"

    def _assert_count(self, records: Sequence[Record], expected: int) -> None:
        assert len(records) == expected, (
            f"it returned {len(records)} records, and not {expected}: set `count` to the number that make_source and "
            "feed provide"
        )

    def _assert_same(self, expected: Sequence[Record], actual: Sequence[Record]) -> None:
        assert len(actual) == len(expected), (
            f"{len(actual)} records arrived, and not the {len(expected)} after the position"
        )
        for one, other in zip(expected, actual, strict=True):
            assert_same_record(one, other, fields=("data", "channel", "seq") if self.same_seq else ("data", "channel"))


def _read_to_the_end(source: Source) -> None:
    """Read until EndOfSource is raised; fail if anything else happens."""
    ends = time.monotonic() + _PATIENCE_S
    while time.monotonic() < ends:
        try:
            found = source.read(10, 0.2)
        except EndOfSource:
            return
        except StopIteration as error:
            raise AssertionError("read() raised StopIteration at the end: raise penstock.errors.EndOfSource") from error
        assert found is not None, "read() returned None at the end: raise EndOfSource (and return () to say 'not yet')"
        assert not found, "more records than `count` says"
    pytest.fail(
        f"read() did not raise EndOfSource within {_PATIENCE_S:.0f} s after the last record: raise it, or set "
        "ends = False if more may come"
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str, bytes))
