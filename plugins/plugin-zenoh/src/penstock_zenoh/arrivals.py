"""Messages that have arrived at a source and wait to be read, bounded for each publisher."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal

import attrs
import zenoh

from penstock.record import Record
from penstock_zenoh import wire
from penstock_zenoh.publisher import Publisher

_GRAIN_BYTES = 1 << 20
_RUN_BYTES = 1 << 17
"""Foreign samples are collected as one arrival up to this size: a part of one cannot be weighed."""
_GRACE_S = 0.5
"""Seconds to wait for records in flight after a publisher's token disappears or a mark overtakes records."""


@attrs.define(eq=False)
class Arrival:
    """A sample of a penstock store that waits for the reader, or foreign samples that arrived together; or a part.

    Attributes:
        samples: The zenoh samples: one of a penstock store, or several foreign ones.
        key: The key of a sample of a penstock store.
        publisher: Its sender.
        number: The running number of its first record.
        lost_before: Number of records on its key that were lost immediately before it.
        size_bytes: Its size in bytes.
        is_foreign: It was put by a program other than a penstock store.
        is_whole: None of the foreign samples is empty; an empty one may be a deletion.
        at_ns: Time of arrival in UNIX nanoseconds; only for foreign samples (records of penstock stores have a time).
        breaks: It does not continue the previous record on its key.
        packed: The attachment of a packed message, which only penstock sources can read.
        start: Index of the first record, or foreign sample, of this part; `stop` is the index after the last one.
        unpacked: The records of the message once unpacked; shared by all parts of the sample.
    """

    samples: list[zenoh.Sample]
    key: str
    publisher: Publisher
    number: int
    lost_before: int
    size_bytes: int
    at_ns: int = 0
    is_foreign: bool = False
    is_whole: bool = True
    breaks: bool = False
    packed: wire.Packed | None = None
    start: int = 0
    stop: int = 1
    unpacked: list[Record] | None = None


@attrs.define(eq=False)
class Arrivals:
    """Hold the arrived samples, bounded for each publisher, and the state of each publisher. Thread-safe.

    Attributes:
        capacity: Number of records of one publisher that may wait.
        capacity_bytes: Number of their bytes; a single larger record may wait as well.
        away_s: Seconds in which a disconnected publisher may return after a broken link; its process may be alive.
        settle_s: Additional seconds that the end of all publishers waits for it, so that both ends count the same loss.
        source: Id of the source, to which publishers address the records that they send again.
        changed: Condition that guards all attributes; notified on every change.
        waiting: Arrivals that wait for the reader; `count` is the number of their records and foreign samples.
        is_closed: Closed; nothing is held any more.
        has_news: A publisher appeared, disappeared or ended since the reader last checked.
        lost: Number of records that each channel lost.
        publishers: Publishers by id.
        over: Publishers that ended or vanished, and foreign tokens that disappeared, until the reader has handled them.
    """

    capacity: int
    capacity_bytes: int
    away_s: float = 0.0
    settle_s: float = 0.0
    source: str = ""
    changed: threading.Condition = attrs.field(factory=threading.Condition)
    waiting: deque[Arrival] = attrs.field(factory=deque)
    count: int = 0
    is_closed: bool = False
    has_news: bool = False
    lost: dict[str, int] = attrs.field(factory=dict)
    publishers: dict[str, Publisher] = attrs.field(factory=dict)
    over: deque[Publisher | str] = attrs.field(factory=deque)
    _foreign: Publisher = attrs.field(factory=lambda: Publisher(""))

    def put(self, samples: Iterable[zenoh.Sample], *, when_full: Literal["wait", "exceed"]) -> list[Publisher]:
        """Add samples in order; return the publishers whose mark must now be answered.

        "wait" waits while the publisher of a sample has no free capacity. A penstock store knows the capacity and does
        not exceed it, so that this delays only foreign publishers, and the first moments of a connection.
        """
        due: list[Publisher] = []
        foreign = self._foreign
        run: Arrival | None = None  # the last arrival, until another thread has had the lock
        with self.changed:
            at_ns = time.time_ns()
            for sample in samples:
                attached = sample.attachment
                size_bytes = len(sample.payload)
                named = None if attached is None else self._named(attached.to_bytes())
                publisher = foreign if named is None else self._known(named[0])
                while when_full == "wait" and self._is_full(publisher):
                    run = None
                    self.changed.notify_all()
                    self.changed.wait()
                if self.is_closed:
                    return []
                if named is None:
                    if run is None or run.size_bytes >= _RUN_BYTES:
                        run = Arrival([], "", foreign, 0, 0, 0, at_ns, is_foreign=True, stop=0)
                        self.waiting.append(run)
                    run.samples.append(sample)
                    run.is_whole &= size_bytes > 0
                    run.stop += 1
                    run.size_bytes += size_bytes
                    self.count += 1
                    foreign.waiting += 1
                    foreign.waiting_bytes += size_bytes
                    continue
                arrival = self._arrival(sample, size_bytes, publisher, *named[1:])
                if arrival is None:
                    continue
                run = None
                publisher.waiting += arrival.stop
                publisher.waiting_bytes += size_bytes
                self.count += arrival.stop
                self.waiting.append(arrival)
                if publisher.pending is not None and self._settle(publisher):
                    due.append(publisher)
            self.changed.notify_all()
        return due

    def pop(self, most: int) -> list[Arrival]:
        """Return up to `most` waiting records; of large records, no more than a processor's cache holds."""
        taken: list[Arrival] = []
        size_bytes = 0
        with self.changed:
            waiting = self.waiting
            while waiting and most > 0 and size_bytes < _GRAIN_BYTES:
                arrival = waiting[0]
                size_bytes += arrival.size_bytes
                count = arrival.stop - arrival.start
                if count <= most:
                    waiting.popleft()
                else:
                    arrival = self._part(arrival, most)
                    count = most
                most -= count
                self.count -= count
                taken.append(arrival)
                publisher = arrival.publisher
                publisher.waiting -= count
                publisher.waiting_bytes -= arrival.size_bytes
                publisher.taken = arrival.number + arrival.stop - 1
                publisher.taken_since += count
                publisher.taken_bytes_since += arrival.size_bytes
            if taken:
                self.changed.notify_all()
        return taken

    def _part(self, arrival: Arrival, count: int) -> Arrival:
        """Take `count` records off the front of a waiting arrival; its bytes are freed with the last part."""
        if arrival.unpacked is None and not arrival.is_foreign:
            arrival.unpacked = []
        part = attrs.evolve(arrival, stop=arrival.start + count, size_bytes=0)
        arrival.start, arrival.lost_before, arrival.breaks = part.stop, 0, False
        return part

    def receipts_due(self, taken: Sequence[Arrival]) -> list[Publisher]:
        """Return the publishers of these arrivals that need a receipt now, lest they wait for free capacity."""
        with self.changed:
            seen = {arrival.publisher.id: arrival.publisher for arrival in taken if arrival.publisher.id}
            return [
                each
                for each in seen.values()
                if each.taken_since * 4 >= self.capacity or each.taken_bytes_since * 4 >= self.capacity_bytes
            ]

    def receipts_left(self) -> list[Publisher]:
        """Return the publishers that have no receipt yet for the records taken last."""
        with self.changed:
            return [each for each in self.publishers.values() if each.taken_since]

    def receipt(self, publisher: Publisher, source: str, *, leaves: bool = False) -> wire.Receipt:
        """Return a receipt with the current state of this publisher."""
        with self.changed:
            publisher.taken_since = publisher.taken_bytes_since = 0
            taken = min(publisher.taken, publisher.received)
            return wire.Receipt(source, publisher.mark, publisher.received, taken, publisher.lost, leaves)

    def count_lost(self, publisher: Publisher, channel: str, count: int) -> None:
        """Count records that never arrived."""
        with self.changed:
            self.lost[channel] = self.lost.get(channel, 0) + count

    def on_mark(self, publisher_id: str, mark: wire.Mark) -> Publisher | None:
        """Store a mark; return the publisher if it can be answered now, None while records are in flight."""
        with self.changed:
            publisher = self._known(publisher_id)
            publisher.has_all_before(mark)
            if mark.number <= publisher.mark:
                return publisher  # the receipt was lost: repeat it
            if publisher.pending is None or publisher.pending.number != mark.number:
                publisher.pending_since = time.monotonic()
            publisher.pending = mark
            settled = self._settle(publisher)
            return publisher if settled else None

    def on_token(self, publisher_id: str, process: str, *, is_there: bool) -> None:
        """Record that a publisher appeared or disappeared."""
        with self.changed:
            publisher = self._known(publisher_id)
            publisher.process = process
            publisher.vanished_at = None if is_there or publisher.is_ended else time.monotonic()
            publisher.is_noticed = False
            if not is_there and publisher.received and not publisher.is_ended:
                publisher.is_returning = True
            self.has_news = True
            self.changed.notify_all()

    def on_other_end(self, key: str) -> None:
        """Record that a foreign token disappeared."""
        with self.changed:
            self.over.append(key)
            self.has_news = True
            self.changed.notify_all()

    def have_ended(self, at_least: int) -> bool:
        """Return whether `at_least` publishers were seen, all ended or vanished, and no record is left."""
        with self.changed:
            everybody = self.publishers.values()
            return (
                len(everybody) >= at_least
                and not self.waiting
                and all(each.is_ended or self._has_vanished(each, self.settle_s) for each in everybody)
            )

    def vanished(self) -> list[Publisher]:
        """Return the publishers that disappeared without an end and whose records have all arrived."""
        with self.changed:
            return [each for each in self.publishers.values() if self._has_vanished(each)]

    def newly_vanished(self) -> list[Publisher]:
        """Return those of `vanished` that have not been logged yet."""
        with self.changed:
            return [each for each in self.publishers.values() if not each.is_noticed and self._has_vanished(each)]

    def forget(self, publisher: Publisher) -> None:
        """Drop the state of a publisher that will not return."""
        with self.changed:
            self.publishers.pop(publisher.id, None)

    def close(self) -> None:
        """Wake all waiting threads, and drop waiting records."""
        with self.changed:
            self.is_closed = True
            self.waiting.clear()
            self.count = 0
            self.changed.notify_all()

    def _known(self, publisher_id: str) -> Publisher:
        publisher = self.publishers.get(publisher_id)
        if publisher is None:
            publisher = Publisher(publisher_id)
            wire.remember(self.publishers, publisher_id, publisher)
        return publisher

    def _arrival(
        self,
        sample: zenoh.Sample,
        size_bytes: int,
        publisher: Publisher,
        number: int,
        key_number: int,
        count: int,
        packed: wire.Packed | None,
        is_repeated: bool,
    ) -> Arrival | None:
        """Return the arrival of a sample of a penstock store; None for a repetition after a broken link."""
        key = str(sample.key_expr)
        expected = publisher.next_numbers.get(key, key_number)
        if key_number < expected:
            if number <= publisher.last_numbers.get(key, 0):
                publisher.take_note(number + count - 1, is_repeated=is_repeated)
                return None
            expected = key_number  # its publisher has forgotten this key and counts from 0 again
        lost = max(0, key_number - expected)
        if lost and publisher.is_returning and not is_repeated:
            return None  # it is sent again, after those before it
        publisher.lost += lost
        publisher.take_note(number + count - 1, is_repeated=is_repeated)
        if publisher.vanished_at is not None:
            publisher.vanished_at = time.monotonic()  # its records are still arriving
        wire.remember(publisher.next_numbers, key, key_number + count)
        wire.remember(publisher.last_numbers, key, number + count - 1)
        breaks = bool(lost)
        if publisher.gaps and key in publisher.gaps:
            publisher.gaps.discard(key)
            breaks = True
        return Arrival([sample], key, publisher, number, lost, size_bytes, breaks=breaks, packed=packed, stop=count)

    def _named(self, attachment: bytes) -> tuple[str, int, int, int, wire.Packed | None, bool] | None:
        """Return a penstock store's attachment: its id, numbers, count, the packed form, whether it is sent again."""
        to, attachment = wire.read_repetition(attachment)
        numbers = wire.read_attachment(attachment)
        if numbers is not None:
            return *numbers, 1, None, to == self.source
        packed = wire.read_packed(attachment)
        return None if packed is None else (*packed[:4], packed, to == self.source)

    def _is_full(self, publisher: Publisher) -> bool:
        return not self.is_closed and (
            publisher.waiting >= self.capacity or publisher.waiting_bytes >= self.capacity_bytes
        )

    def _settle(self, publisher: Publisher) -> bool:
        """Answer the pending mark if all records before it have arrived or are known to be lost."""
        mark = publisher.pending
        assert mark is not None
        if publisher.received < mark.last and time.monotonic() < publisher.pending_since + _GRACE_S:
            return False
        publisher.pending = None
        publisher.mark = mark.number
        if mark.is_final:
            self._count_missing(publisher, mark)
        if mark.is_end and publisher.received >= mark.last:  # otherwise the missing records are sent again
            if not publisher.is_ended:
                self.over.append(publisher)
            publisher.is_ended = True
            publisher.vanished_at = None
            self.has_news = True
            self.changed.notify_all()
        return True

    def _count_missing(self, publisher: Publisher, mark: wire.Mark) -> None:
        """Count as lost the records that were sent before a final mark and have not arrived."""
        for key, (first, following) in mark.totals.items():
            missing = following - publisher.next_numbers.get(key, first)
            if missing > 0:
                wire.remember(publisher.next_numbers, key, following)
                publisher.gaps.add(key)
                publisher.lost += missing
                channel = publisher.channels.get(key, key)
                self.lost[channel] = self.lost.get(channel, 0) + missing
        publisher.take_note(mark.last, is_repeated=True)

    def _has_vanished(self, publisher: Publisher, longer_s: float = 0.0) -> bool:
        """Return whether a publisher has disappeared and will not return."""
        if publisher.vanished_at is None:
            return False
        gone_s = time.monotonic() - publisher.vanished_at
        return gone_s >= _GRACE_S and (gone_s >= self.away_s + longer_s or wire.is_dead(publisher.process))
