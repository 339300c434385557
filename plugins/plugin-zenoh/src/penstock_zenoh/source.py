"""ZenohSource: gives what publishers send on zenoh keys, and lets them wait while nobody reads."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import msgspec
import zenoh

from penstock.codec import decode
from penstock.errors import CodecError, ConfigError, EndOfSource, SourceError
from penstock.record import Record
from penstock_zenoh import settings as s
from penstock_zenoh import wire
from penstock_zenoh.arrivals import Arrival, Arrivals, Publisher
from penstock_zenoh.intake import Intake
from penstock_zenoh.outside import forget, keep_in_children
from penstock_zenoh.payloads import foreign_record
from penstock_zenoh.session import RENDEZVOUS, let_go, open_session

_RECEIPTS_EVERY_S = 0.1
_HISTORY_S = 10.0
_log = logging.getLogger(__name__)


def _key(_: object, __: object, value: str) -> None:
    try:
        zenoh.KeyExpr(value)
    except (zenoh.ZError, TypeError) as error:
        raise ConfigError(
            f"key={value!r}: is no zenoh key expression; write chunks with '/' between them, none empty, "
            "'*' for one, '**' for any number, '$*' within one, as in 'lab/camera/**' or 'lab/cam$*'"
        ) from error
    if len(value.encode()) > wire.MOST_CARD_KEY_BYTES:
        raise ConfigError(
            f"key={value[:40]!r}…: has {len(value.encode())} bytes, and {wire.MOST_CARD_KEY_BYTES} is the most that "
            "can be announced; shorten it, or use wildcards"
        )


@attrs.define(kw_only=True)
class ZenohSource:
    """Give the records that arrive on keys that match, each with the sender's channel, seq and time.

    It lets each publisher have at most `capacity` records, and about `capacity_bytes`, on their way; a penstock
    store waits then. Foreign publishers are held back by zenoh itself, if they publish with congestion control
    *block*, and drop otherwise; while one is held back, the others of this source are too.

    A publisher whose link is broken may come back within `timeout_s`; what it had sent in vain it sends again, and
    nothing comes twice. Records that never arrived (a longer break) are seen by their running numbers: `lost_upstream`
    counts them,
    and the record after a gap has `discontinuity`. What is no record (`rejected`) is counted, logged at most once a
    second, and left out; the next record of its key has `discontinuity`. A publisher that starts again is no gap.

    Attributes:
        key: zenoh key expression: "lab/camera/**".
        raw: Foreign payloads, without penstock's attachment, are given as they are: data is the payload (bytes),
            channel the key, seq counted per key. Otherwise they must hold `penstock.codec` bytes.
        by_encoding: Foreign payloads are read by their encoding: JSON, CBOR and text become values, what is not what it
            says is dead-lettered, anything else stays bytes. Needs `raw`.
        history: Give first what storages (or other queryables) answer for the key, oldest first. Needs `raw`.
        until_end: End once `publishers` publishers have been seen and each has closed. If one vanished without (it
            was killed, the network broke), the end is a SourceError that names it. Else: wait for others for ever.
        publishers: See `until_end`.
        first_within_s: Seconds from `open` in which a publisher must be seen; None: wait for ever.
        capacity: Records of one publisher that may wait here to be read.
        capacity_bytes: Their bytes; a single larger record passes.
        listen: zenoh endpoints to listen on, as "tcp/0.0.0.0:7450". Default: see `rendezvous`.
        connect: zenoh endpoints to connect to; opening fails if none answers within `timeout_s`.
        rendezvous: Without `listen` and `connect`: the loopback endpoint where processes of this machine meet.
        mode: "peer", "client" of a router, or "router".
        config: zenoh configuration, merged last (TLS, access control …): nested plain data, or the text of a JSON5
            file. Never printed.
        timeout_s: Seconds to wait for a connection when opening, and for a publisher behind a broken link.
    """

    gives: ClassVar[str] = "any"
    exact_fields: ClassVar[bool] = True

    key: str = attrs.field(validator=_key)
    raw: bool = attrs.field(default=False, validator=s.flag)
    by_encoding: bool = attrs.field(default=False, validator=s.flag)
    history: bool = attrs.field(default=False, validator=s.flag)
    until_end: bool = attrs.field(default=False, validator=s.flag)
    publishers: int = attrs.field(default=1, validator=s.at_least(1))
    first_within_s: float | None = attrs.field(default=None, validator=attrs.validators.optional(s.seconds))
    capacity: int = attrs.field(default=1024, validator=s.at_least(1))
    capacity_bytes: int = attrs.field(default=64 << 20, validator=s.at_least(1))
    listen: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints)
    connect: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints)
    rendezvous: str = attrs.field(default=RENDEZVOUS, validator=s.text)
    mode: str = attrs.field(default="peer", validator=attrs.validators.in_(s.MODES))
    config: Mapping[str, Any] | str | None = attrs.field(default=None, repr=False)
    timeout_s: float = attrs.field(default=30.0, validator=s.seconds)
    _open: _Subscription | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _lost: Mapping[str, int] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _rejected: int = attrs.field(default=0, init=False, repr=False, eq=False)
    _rejected_logged: tuple[int, float] = attrs.field(default=(0, 0.0), init=False, repr=False, eq=False)
    _broken: dict[str, bool] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _foreign_seq: dict[str, int] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _refused: list[tuple[Record, BaseException]] = attrs.field(factory=list, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Subscribe. Raises SourceError naming the endpoint that is out of reach; ConfigError for one that is none."""
        if self._open is not None:
            raise SourceError(f"{self._name()} is open already: close it first")
        arrivals = Arrivals(self.capacity, self.capacity_bytes, self.timeout_s)
        self._lost, self._rejected, self._rejected_logged = arrivals.lost, 0, (0, 0.0)
        self._broken.clear()
        self._foreign_seq.clear()
        self._refused.clear()
        history_s = min(self.timeout_s, _HISTORY_S) if self.history else 0.0
        self._open = open_session(
            self,
            lambda session: _Subscription(session, self.key, arrivals, keep_ended=self.until_end, history_s=history_s),
            name=self._name(),
            unreachable=SourceError,
        )

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return what has arrived. Raises EndOfSource, or SourceError for publishers that vanished or never came."""
        subscription = self._open
        if subscription is None:
            raise SourceError(f"{self._name()} is not open: call open() first")
        if not subscription.is_here():
            raise SourceError(f"{self._name()} was opened by another process, of which this is a fork: open one here")
        deadline = time.monotonic() + timeout_s
        while True:
            taken = subscription.take(max_records, max(0.0, deadline - time.monotonic()))
            if taken:
                records = self._records(taken, subscription)
                if records:
                    return records
            else:
                self._look_around(subscription)
            if time.monotonic() >= deadline:
                return ()

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many records each channel lost on the way, since `open`; any thread."""
        return dict(self._lost)

    def rejected(self) -> int:
        """Return how many messages were no records and were left out, since `open`; any thread."""
        return self._rejected

    def take_refused(self) -> Sequence[tuple[Record, BaseException]]:
        """Return what came since the last call and is not what its encoding says, with the reasons."""
        refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        """Leave; what has arrived and was not read is lost, and the stores that sent it are told."""
        subscription, self._open = self._open, None
        if subscription is not None and subscription.is_here():
            subscription.close()

    def _records(self, taken: Sequence[Arrival], subscription: _Subscription) -> Sequence[Record]:
        records = []
        for arrival in taken:
            record = self._record(arrival, subscription.arrivals)
            if record is not None:
                records.append(record)
        for publisher in subscription.receipts_due(taken):
            subscription.send_receipt(publisher)
        self._log_rejected()
        return records

    def _record(self, arrival: Arrival, arrivals: Arrivals) -> Record | None:
        sample, publisher, key = arrival.sample, arrival.publisher, arrival.key
        if self.raw and not publisher.id and sample.kind == zenoh.SampleKind.PUT:
            return self._foreign(key, arrival, by_encoding=self.by_encoding)
        try:
            record = decode(sample.payload.to_bytes())
        except CodecError as error:
            if publisher.id and sample.encoding != zenoh.Encoding.ZENOH_BYTES:  # of a store that publishes for others
                if arrival.lost_before:
                    arrivals.count_lost(publisher, key, arrival.lost_before)
                return self._foreign(key, arrival, by_encoding=True)
            self._rejected += 1
            wire.remember(self._broken, key, True)
            if self._rejected == 1:
                _log.warning("%s: a message on %r is no record and was left out: %s", self._name(), key, error)
                self._rejected_logged = (1, time.monotonic())
            if arrival.lost_before:
                arrivals.count_lost(publisher, publisher.channels.get(key, key), arrival.lost_before)
            return None
        if publisher.channels.get(key) != record.channel:
            wire.remember(publisher.channels, key, record.channel)
        if arrival.lost_before:
            arrivals.count_lost(publisher, record.channel, arrival.lost_before)
        if arrival.lost_before or (self._broken and key in self._broken):
            self._broken.pop(key, None)
            return record.replace(discontinuity=True)
        return record

    def _foreign(self, key: str, arrival: Arrival, *, by_encoding: bool) -> Record | None:
        seq = self._foreign_seq.get(key, 0)
        wire.remember(self._foreign_seq, key, seq + 1)
        try:
            return foreign_record(arrival, seq, by_encoding=by_encoding)
        except CodecError as error:
            self._refused.append((foreign_record(arrival, seq, by_encoding=False), error))
            return None

    def _look_around(self, subscription: _Subscription) -> None:
        """Nothing waits: see whether that is the end."""
        arrivals = subscription.arrivals
        self._log_rejected()
        for publisher in arrivals.receipts_left():
            subscription.send_receipt(publisher)
        if self.first_within_s is not None and not subscription.seen():
            silent_s = time.monotonic() - subscription.since
            if silent_s >= self.first_within_s:
                raise SourceError(
                    f"{self._name()}: no publisher within {self.first_within_s:g} s: start it, compare its key and "
                    "endpoints with these, or raise first_within_s"
                )
        for publisher in arrivals.newly_vanished():
            publisher.is_noticed = True
            _log.warning(
                "%s: %s vanished without an end after record %d; what it had not sent by then is lost",
                self._name(),
                publisher.process,
                publisher.received,
            )
        if self.until_end and arrivals.have_ended(self.publishers):
            vanished = arrivals.vanished()
            if vanished:
                names = ", ".join(f"{each.process} (after record {each.received})" for each in vanished)
                raise SourceError(
                    f"{self._name()}: vanished without an end: {names}; what it had not sent by then is lost: "
                    "see why it died, and start it again",
                    retryable=False,
                )
            raise EndOfSource(f"{self._name()}: all publishers have closed")

    def _log_rejected(self) -> None:
        logged, at = self._rejected_logged
        if self._rejected > logged and time.monotonic() >= at + 1.0:
            _log.warning("%s: %d messages so far were no records and were left out", self._name(), self._rejected)
            self._rejected_logged = (self._rejected, time.monotonic())

    def _name(self) -> str:
        return f"zenoh source {self.key!r}"


class _Subscription:
    """An open session of a source: its subscribers, its token, its receipts."""

    def __init__(
        self, session: zenoh.Session, key: str, arrivals: Arrivals, *, keep_ended: bool, history_s: float
    ) -> None:
        self.arrivals = arrivals
        self.since = time.monotonic()
        self._process = os.getpid()
        self._session = session
        self._key = key
        self._keep_ended = keep_ended
        self._id = wire.new_id()
        self._has_arrived = False
        self._receipts_at = self.since
        liveliness = session.liveliness()
        card = wire.SourceCard(key, arrivals.capacity, arrivals.capacity_bytes, wire.this_process())
        subscriber = session.declare_subscriber(key, zenoh.handlers.FifoChannel(arrivals.capacity))
        if history_s:
            arrivals.put(_history(session, key, history_s), when_full="exceed")
        # Callbacks run in zenoh's own threads: they are rare and short, and need no thread of Python's for each.
        self._held = (
            subscriber,
            session.declare_subscriber(
                wire.mark_key("*", self._id), zenoh.handlers.Callback(self._on_mark, indirect=False)
            ),
            liveliness.declare_subscriber(
                wire.PUBLISHERS, zenoh.handlers.Callback(self._on_token, indirect=False), history=True
            ),
            liveliness.declare_token(wire.source_key(self._id, card)),  # last: a sender that sees it may send
        )
        self._intake = Intake(subscriber.handler, arrivals, name=f"penstock-zenoh {key}", when_due=self.send_receipt)
        keep_in_children(self)

    def is_here(self) -> bool:
        """Tell whether this process opened it; a fork has none of its threads."""
        return self._process == os.getpid()

    def take(self, most: int, timeout_s: float) -> list[Arrival]:
        """Return what has arrived, up to `most`, or what does within `timeout_s` seconds."""
        taken = self._intake.take(most, timeout_s)
        self._has_arrived = self._has_arrived or bool(taken)
        return taken

    def receipts_due(self, taken: Sequence[Arrival]) -> list[Publisher]:
        """Return who must hear now: who may wait for room, and from time to time all."""
        now = time.monotonic()
        if now < self._receipts_at + _RECEIPTS_EVERY_S:
            return self.arrivals.receipts_due(taken)
        self._receipts_at = now
        return self.arrivals.receipts_left()

    def seen(self) -> bool:
        """Tell whether a publisher was seen, or anything has come."""
        return self._has_arrived or bool(self.arrivals.publishers)

    def send_receipt(self, publisher: Publisher, *, leaves: bool = False) -> None:
        """Tell a publisher what has been received and taken."""
        with contextlib.suppress(zenoh.ZError):  # a closed session: the token's end tells the same
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
        let_go(self._session, self._held)
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

    def _on_token(self, sample: zenoh.Sample) -> None:
        token = wire.read_card(str(sample.key_expr), wire.PublisherCard)
        if token is None or not wire.intersects(self._key, token[1].key):
            return
        is_there = sample.kind == zenoh.SampleKind.PUT
        self.arrivals.on_token(token[0], token[1].process, is_there=is_there)
        known = self.arrivals.publishers.get(token[0])
        if known is not None and is_there and known.received:
            self.send_receipt(known)  # it has come back, and what was sent meanwhile is gone
        elif known is not None and known.is_ended and not is_there and not self._keep_ended:
            self.arrivals.forget(known)


def _history(session: zenoh.Session, key: str, timeout_s: float) -> list[zenoh.Sample]:
    """Return what storages have for a key, the oldest first; those without a time keep their order, before the others.

    It is asked for when the subscriber is there already, so that nothing falls between.
    """
    replies = session.get(key, timeout=timeout_s, consolidation=zenoh.ConsolidationMode.NONE)
    samples = [reply.ok for reply in replies if reply.ok is not None]
    return sorted(
        samples, key=lambda sample: 0.0 if sample.timestamp is None else sample.timestamp.get_time().timestamp()
    )
