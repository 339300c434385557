"""The session of a source that is open: its subscribers, its token, its receipts."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

import msgspec
import zenoh

from penstock_zenoh import wire
from penstock_zenoh.announcement import Announcement
from penstock_zenoh.arrivals import Arrival, Arrivals
from penstock_zenoh.intake import MOST_IN_CHANNEL, Intake
from penstock_zenoh.library_errors import forget, keep_in_children
from penstock_zenoh.presence_log import PresenceLog
from penstock_zenoh.publisher import Publisher
from penstock_zenoh.session import close_session

_RECEIPTS_EVERY_S = 0.1
_SOON_S = 0.005


class Subscription:
    """An open session of a source. Any thread may send receipts; one thread takes samples."""

    def __init__(
        self,
        session: zenoh.Session,
        key: str,
        arrivals: Arrivals,
        *,
        keep_ended: bool,
        history_s: float,
        is_peer: bool,
        presence: PresenceLog,
        tokens: str | None,
    ) -> None:
        self.arrivals = arrivals
        self._presence = presence
        self.since = time.monotonic()
        self._process = os.getpid()
        self._session = session
        self._key = key
        self._keep_ended = keep_ended
        self._id = arrivals.source = wire.new_id()
        self._has_arrived = False
        self._receipts_at = self.since
        liveliness = session.liveliness()
        card = wire.SourceCard(key, arrivals.capacity, arrivals.capacity_bytes, wire.this_process())
        subscriber = session.declare_subscriber(
            key, zenoh.handlers.FifoChannel(min(arrivals.capacity, MOST_IN_CHANNEL))
        )
        if history_s:
            arrivals.put(_history(session, key, history_s), when_full="exceed")
        # Callbacks run in zenoh's own threads: they are rare and short, and need no Python thread each.
        self._held = (
            subscriber,
            session.declare_subscriber(
                wire.mark_key("*", self._id), zenoh.handlers.Callback(self._on_mark, indirect=False)
            ),
            liveliness.declare_subscriber(
                wire.PUBLISHERS, zenoh.handlers.Callback(self._on_token, indirect=False), history=True
            ),
            *(
                [
                    liveliness.declare_subscriber(
                        tokens, zenoh.handlers.Callback(self._on_other_token, indirect=False), history=True
                    )
                ]
                if tokens
                else []
            ),
            Announcement(session, is_peer=is_peer),
            liveliness.declare_token(wire.source_key(self._id, card)),  # last: senders wait for it
        )
        self._intake = Intake(subscriber.handler, arrivals, name=f"penstock-zenoh {key}", when_due=self.send_receipt)
        keep_in_children(self)

    def is_here(self) -> bool:
        """Return whether this process opened the session; a fork has none of its threads."""
        return self._process == os.getpid()

    def take(self, most: int, timeout_s: float) -> list[Arrival]:
        """Return up to `most` arrivals, waiting up to `timeout_s` seconds for the first.

        Sends outstanding receipts before it waits: a store may be waiting for them.
        """
        soon_s = min(max(0.0, self._receipts_at + _SOON_S - time.monotonic()), timeout_s)
        taken = self._intake.take(most, soon_s)
        if not taken and timeout_s > soon_s:
            self._receipts_at = time.monotonic()
            for publisher in self.arrivals.receipts_left():
                self.send_receipt(publisher)
            taken = self._intake.take(most, timeout_s - soon_s)
        self._has_arrived = self._has_arrived or bool(taken)
        return taken

    def receipts_due(self, taken: Sequence[Arrival]) -> list[Publisher]:
        """Return the publishers that need a receipt now: those that may wait for capacity, and periodically all."""
        now = time.monotonic()
        if now < self._receipts_at + _RECEIPTS_EVERY_S:
            return self.arrivals.receipts_due(taken)
        self._receipts_at = now
        return self.arrivals.receipts_left()

    def seen(self) -> bool:
        """Return whether a publisher has appeared or any message has arrived."""
        return self._has_arrived or bool(self.arrivals.publishers)

    def send_receipt(self, publisher: Publisher, *, leaves: bool = False) -> None:
        """Send a publisher the numbers of the received and taken records."""
        with contextlib.suppress(zenoh.ZError):  # the session is closed: the end of the token has the same effect
            self._session.put(
                wire.receipt_key(publisher.id),
                msgspec.msgpack.encode(self.arrivals.receipt(publisher, self._id, leaves=leaves)),
                congestion_control=zenoh.CongestionControl.DROP,  # a put that blocks outlasts a broken link
                priority=zenoh.Priority.INTERACTIVE_HIGH,
                express=True,
            )

    def close(self) -> None:
        """Undeclare everything, end the thread, close the session."""
        for publisher in list(self.arrivals.publishers.values()):
            self.send_receipt(publisher, leaves=True)
        self.arrivals.close()
        close_session(self._session, self._held)
        self._intake.join()
        forget(self)

    def _on_mark(self, sample: zenoh.Sample) -> None:
        chunks = str(sample.key_expr).split("/")
        mark = wire.read_message(sample.payload.to_bytes(), wire.Mark)
        if mark is None or len(chunks) != 5:
            return
        publisher = self.arrivals.on_mark(chunks[3], mark)
        if publisher is not None:
            self.send_receipt(publisher)

    def _on_other_token(self, sample: zenoh.Sample) -> None:
        """Record that the token of a foreign program appeared or disappeared."""
        key = str(sample.key_expr)
        is_there = sample.kind == zenoh.SampleKind.PUT
        self._presence.note(f"the token {key!r} {'appeared' if is_there else 'disappeared'}")
        if not is_there:
            self.arrivals.on_other_end(key)

    def _on_token(self, sample: zenoh.Sample) -> None:
        token = wire.read_card(str(sample.key_expr), wire.PublisherCard)
        if token is None or not wire.intersects(self._key, token[1].key):
            return
        is_there = sample.kind == zenoh.SampleKind.PUT
        before = self.arrivals.publishers.get(token[0])
        self.arrivals.on_token(token[0], token[1].process, is_there=is_there)
        known = self.arrivals.publishers.get(token[0])
        if is_there:
            came = "appeared" if before is None or before.vanished_at is None else "reconnected"
            self._presence.note(f"the publisher of {token[1].key!r} ({token[1].process}) {came}")
        else:
            how = "closed" if known is not None and known.is_ended else "vanished without closing"
            self._presence.note(f"the publisher of {token[1].key!r} ({token[1].process}) {how}")
        if known is not None and is_there and known.received:
            self.send_receipt(known)  # it has reconnected, and receipts sent meanwhile are lost
        elif known is not None and known.is_ended and not is_there and not self._keep_ended:
            self.arrivals.forget(known)


def _history(session: zenoh.Session, key: str, timeout_s: float) -> list[zenoh.Sample]:
    """Return the samples of storages for a key, oldest first; samples without a time come before, in their order.

    Queried after the subscriber is declared, so that no sample is missed in between.
    """
    replies = session.get(key, timeout=timeout_s, consolidation=zenoh.ConsolidationMode.NONE)
    samples = [reply.ok for reply in replies if reply.ok is not None]
    return sorted(
        samples, key=lambda sample: 0.0 if sample.timestamp is None else sample.timestamp.get_time().timestamp()
    )
