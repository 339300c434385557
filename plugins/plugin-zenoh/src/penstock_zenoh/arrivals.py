"""What has arrived at a source and waits for its reader; bounded for each publisher."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal

import attrs
import zenoh

from penstock_zenoh import wire

_GRACE_S = 0.5
"""How long what is still on the way may take, once a publisher's token is gone or a mark has overtaken records."""


@attrs.define(eq=False)
class Publisher:
    """One store that publishes to this source, or (`id` "") all foreign publishers together.

    Attributes:
        id: Its id on the wire.
        process: What messages call it.
        received: Number of its newest record that has arrived.
        taken: Number of its newest record that the reader has taken.
        receipted: Its `taken` in the last receipt, with the count and bytes taken since.
        lost: How many of its records never arrived.
        next_numbers: The number that the next record on each key should have.
        channels: The channel of the last record on each key, for losses at the end of it.
        waiting: How many records, and bytes, wait for the reader.
        mark: The mark that was answered last; `pending` waits for an answer, since `pending_since` at `pending_at`.
        is_ended: It has said that it ends.
        vanished_at: When its token went without that, on the monotonic clock; None: it is there.
        is_noticed: That has been logged.
    """

    id: str
    process: str = "an unknown process"
    received: int = 0
    taken: int = 0
    taken_since: int = 0
    taken_bytes_since: int = 0
    lost: int = 0
    next_numbers: dict[str, int] = attrs.field(factory=dict)
    channels: dict[str, str] = attrs.field(factory=dict)
    waiting: int = 0
    waiting_bytes: int = 0
    mark: int = 0
    pending: wire.Mark | None = None
    pending_since: float = 0.0
    is_ended: bool = False
    vanished_at: float | None = None
    is_noticed: bool = False


@attrs.define(eq=False)
class Arrival:
    """A sample that waits for the reader, and how many on its key were lost right before it.

    `at_ns` is when it arrived, in UNIX nanoseconds, if it is not of a penstock store, which says so itself.
    """

    sample: zenoh.Sample
    key: str
    publisher: Publisher
    number: int
    lost_before: int
    size_bytes: int
    at_ns: int = 0


@attrs.define(eq=False)
class Arrivals:
    """Hold what has arrived, bounded for each publisher, and what is known of these. Any thread may call it.

    Attributes:
        capacity: Records of one publisher that may wait.
        capacity_bytes: Their bytes; a single larger one may.
        away_s: How long a publisher that has gone may come back, a broken link: its process is not known to be dead.
        changed: Guards all of it; told whenever something changes.
        waiting: What waits for the reader.
        is_closed: Nothing is held any more.
        has_news: A publisher came, went or ended since the reader last looked.
        lost: How many records each channel lost.
        publishers: Who publishes here, by id.
    """

    capacity: int
    capacity_bytes: int
    away_s: float = 0.0
    changed: threading.Condition = attrs.field(factory=threading.Condition)
    waiting: deque[Arrival] = attrs.field(factory=deque)
    is_closed: bool = False
    has_news: bool = False
    lost: dict[str, int] = attrs.field(factory=dict)
    publishers: dict[str, Publisher] = attrs.field(factory=dict)
    _foreign: Publisher = attrs.field(factory=lambda: Publisher(""))

    def put(self, samples: Iterable[zenoh.Sample], *, when_full: Literal["wait", "exceed"]) -> list[Publisher]:
        """Add samples in order; return the publishers whose mark is now due.

        "wait" waits while the room of a sample's publisher is full. A penstock store knows the room and does not
        exceed it, so that only foreign publishers, and the first moments of a connection, are held back there.
        """
        due: list[Publisher] = []
        with self.changed:
            for sample in samples:
                arrival = self._arrival(sample)
                if arrival is None:
                    continue
                publisher = arrival.publisher
                while when_full == "wait" and self._is_full(publisher):
                    self.changed.notify_all()
                    self.changed.wait()
                if self.is_closed:
                    return []
                publisher.waiting += 1
                publisher.waiting_bytes += arrival.size_bytes
                self.waiting.append(arrival)
                if publisher.pending is not None and self._settle(publisher):
                    due.append(publisher)
            self.changed.notify_all()
        return due

    def pop(self, most: int) -> list[Arrival]:
        """Return what waits, up to `most`."""
        with self.changed:
            taken = [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]
            for arrival in taken:
                publisher = arrival.publisher
                publisher.waiting -= 1
                publisher.waiting_bytes -= arrival.size_bytes
                publisher.taken = arrival.number
                publisher.taken_since += 1
                publisher.taken_bytes_since += arrival.size_bytes
            if taken:
                self.changed.notify_all()
        return taken

    def receipts_due(self, taken: Sequence[Arrival]) -> list[Publisher]:
        """Return the publishers of these arrivals that must hear now, lest they wait for room that there is."""
        with self.changed:
            seen = {arrival.publisher.id: arrival.publisher for arrival in taken if arrival.publisher.id}
            return [
                each
                for each in seen.values()
                if each.taken_since * 4 >= self.capacity or each.taken_bytes_since * 4 >= self.capacity_bytes
            ]

    def receipts_left(self) -> list[Publisher]:
        """Return the publishers that have not heard yet what was taken last."""
        with self.changed:
            return [each for each in self.publishers.values() if each.taken_since]

    def receipt(self, publisher: Publisher, source: str, *, leaves: bool = False) -> wire.Receipt:
        """Return a receipt for this publisher as things stand."""
        with self.changed:
            publisher.taken_since = publisher.taken_bytes_since = 0
            return wire.Receipt(source, publisher.mark, publisher.received, publisher.taken, publisher.lost, leaves)

    def count_lost(self, publisher: Publisher, channel: str, count: int) -> None:
        """Take note of records that never arrived."""
        with self.changed:
            self.lost[channel] = self.lost.get(channel, 0) + count

    def on_mark(self, publisher_id: str, mark: wire.Mark) -> Publisher | None:
        """Take note of a mark; return the publisher if it is due now, None while records are still on the way."""
        with self.changed:
            publisher = self._known(publisher_id)
            if mark.number <= publisher.mark:
                return publisher  # the receipt was lost: again
            if publisher.pending is None or publisher.pending.number != mark.number:
                publisher.pending, publisher.pending_since = mark, time.monotonic()
            settled = self._settle(publisher)
            return publisher if settled else None

    def on_token(self, publisher_id: str, process: str, *, is_there: bool) -> None:
        """Take note of a publisher that came or went."""
        with self.changed:
            publisher = self._known(publisher_id)
            publisher.process = process
            publisher.vanished_at = None if is_there or publisher.is_ended else time.monotonic()
            publisher.is_noticed = False
            self.has_news = True
            self.changed.notify_all()

    def have_ended(self, at_least: int) -> bool:
        """Tell whether so many publishers were seen, all have ended or vanished, and nothing waits or is on its way."""
        with self.changed:
            everybody = self.publishers.values()
            return (
                len(everybody) >= at_least
                and not self.waiting
                and all(each.is_ended or self._has_vanished(each) for each in everybody)
            )

    def vanished(self) -> list[Publisher]:
        """Return the publishers that went away without an end, whose records have all arrived."""
        with self.changed:
            return [each for each in self.publishers.values() if self._has_vanished(each)]

    def newly_vanished(self) -> list[Publisher]:
        """Return those of `vanished` that have not been noticed yet."""
        with self.changed:
            return [each for each in self.publishers.values() if not each.is_noticed and self._has_vanished(each)]

    def forget(self, publisher: Publisher) -> None:
        """Drop what is known of a publisher that will not come back."""
        with self.changed:
            self.publishers.pop(publisher.id, None)

    def close(self) -> None:
        """Wake all waiting threads, and drop waiting records."""
        with self.changed:
            self.is_closed = True
            self.waiting.clear()
            self.changed.notify_all()

    def _known(self, publisher_id: str) -> Publisher:
        publisher = self.publishers.get(publisher_id)
        if publisher is None:
            publisher = Publisher(publisher_id)
            wire.remember(self.publishers, publisher_id, publisher)
        return publisher

    def _arrival(self, sample: zenoh.Sample) -> Arrival | None:
        """Return what has arrived; None if it came again, after a broken link."""
        attached = sample.attachment
        numbers = wire.read_attachment(attached.to_bytes()) if attached is not None else None
        size_bytes = len(sample.payload)
        key = str(sample.key_expr)
        if numbers is None:
            return Arrival(sample, key, self._foreign, 0, 0, size_bytes, time.time_ns())
        publisher_id, number, key_number = numbers
        publisher = self._known(publisher_id)
        expected = publisher.next_numbers.get(key, key_number)
        if key_number < expected:
            return None
        lost = max(0, key_number - expected)
        publisher.lost += lost
        publisher.received = max(number, publisher.received)
        if publisher.vanished_at is not None:
            publisher.vanished_at = time.monotonic()  # it is still arriving
        wire.remember(publisher.next_numbers, key, key_number + 1)
        return Arrival(sample, key, publisher, number, lost, size_bytes)

    def _is_full(self, publisher: Publisher) -> bool:
        return not self.is_closed and (
            publisher.waiting >= self.capacity or publisher.waiting_bytes >= self.capacity_bytes
        )

    def _settle(self, publisher: Publisher) -> bool:
        """Answer the pending mark if everything before it has arrived, or will not arrive any more."""
        mark = publisher.pending
        assert mark is not None
        if publisher.received < mark.last and time.monotonic() < publisher.pending_since + _GRACE_S:
            return False
        publisher.pending = None
        publisher.mark = mark.number
        if mark.is_end:
            publisher.is_ended = True
            publisher.vanished_at = None
            self.has_news = True
            self.changed.notify_all()
            for key, total in mark.totals.items():
                missing = total - publisher.next_numbers.get(key, total)
                if missing > 0:
                    publisher.lost += missing
                    channel = publisher.channels.get(key, key)
                    self.lost[channel] = self.lost.get(channel, 0) + missing
        return True

    def _has_vanished(self, publisher: Publisher) -> bool:
        """Tell whether a publisher has gone, and will not come back."""
        if publisher.vanished_at is None:
            return False
        gone_s = time.monotonic() - publisher.vanished_at
        return gone_s >= _GRACE_S and (gone_s >= self.away_s or wire.is_dead(publisher.process))
