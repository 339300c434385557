"""ZenohSource: receives records from zenoh publishers, and makes them wait while the reader is busy."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import zenoh

from penstock.arguments import checks_arguments
from penstock.codec import decode
from penstock.component import Remark
from penstock.decoder import end_of_channel
from penstock.errors import CodecError, ConfigError, EndOfSource, SourceError
from penstock.record import Record
from penstock.short_text import short
from penstock.validators import one_of, or_none
from penstock_zenoh import settings as s
from penstock_zenoh import wire
from penstock_zenoh.arrivals import Arrival, Arrivals
from penstock_zenoh.packing import join, unpack_list
from penstock_zenoh.payloads import foreign_record, foreign_records
from penstock_zenoh.presence_log import PresenceLog
from penstock_zenoh.publisher import Publisher
from penstock_zenoh.session import RENDEZVOUS, is_plain_peer, open_session
from penstock_zenoh.subscription import Subscription

_HISTORY_S = 10.0
_PUT = zenoh.SampleKind.PUT
_log = logging.getLogger(__name__)


def _key(_: object, __: object, value: str) -> None:
    try:
        zenoh.KeyExpr(value)
    except (zenoh.ZError, TypeError) as error:
        raise ConfigError(
            f"key={short(value)}: is not a zenoh key expression: write non-empty chunks separated by '/', "
            "'*' for one chunk, '**' for any number, '$*' within a chunk, as in 'lab/camera/**' or 'lab/cam$*'"
        ) from error
    if len(value.encode()) > wire.MOST_CARD_KEY_BYTES:
        raise ConfigError(
            f"key={value[:40]!r}…: has {len(value.encode())} bytes, and at most {wire.MOST_CARD_KEY_BYTES} can be "
            "announced: shorten it, or use wildcards"
        )


@checks_arguments
@attrs.define(kw_only=True)
class ZenohSource:
    """Receive the records published on matching keys, each with the channel, seq and time of its sender.

    Each publisher may have at most `capacity` records, and about `capacity_bytes`, in flight; then a penstock store
    waits. Foreign publishers are held back by zenoh if they publish with congestion control *block*, and drop messages
    otherwise; while one is held back, so are the others of this source.

    A publisher may reconnect within `timeout_s` after a broken link: it repeats the messages that did not arrive, and
    no record arrives twice. Records that never arrive (after a longer break) are found by their running numbers:
    `lost_upstream` counts them, and the record after a gap has `discontinuity`. A message that is not a record is
    counted (`rejected`), logged at most once a second, and skipped; the next record of its key has `discontinuity`. A
    restart of a publisher is not a gap.

    Attributes:
        key: zenoh key expression, such as "lab/camera/**".
        raw: Return foreign payloads (without penstock's attachment) unchanged: data is the payload (bytes), channel the
            key, seq counted per key. If False, foreign payloads must be `penstock.codec` bytes.
        by_encoding: Decode foreign payloads by their encoding: JSON, CBOR and text become values, a payload that does
            not match its encoding is dead-lettered, others stay bytes. Needs `raw`.
        tokens: Key expression of other programs' liveliness tokens to report, such as "lab/camera/*/alive"; those of
            penstock stores are always reported.
        end_marks: Return the end mark of a channel (`penstock.decoder.end_of_channel`, without data) when its publisher
            has closed or vanished, so that its decoder is closed. For foreign publishers: when a token of `tokens`
            disappears, for the channels of its key, of keys below it, and of the key without its last chunk.
        history: Return first the answers of storages (or other queryables) for the key, oldest first. Needs `raw`.
        until_end: End once `publishers` publishers have been seen and all of them have closed. If one vanished without
            closing (it was killed, or the network failed), the end is a SourceError that names it. If False, wait for
            further publishers for ever.
        publishers: See `until_end`.
        first_within_s: Seconds from `open` within which a publisher must appear; None waits for ever.
        capacity: Number of records of one publisher that may wait here to be read.
        capacity_bytes: Number of their bytes; a single larger record passes. Up to 256 messages, of any size, of other
            publishers than penstock stores may wait in addition.
        listen: zenoh endpoints to listen on, such as "tcp/0.0.0.0:7450". Default: see `rendezvous`.
        connect: zenoh endpoints to connect to; opening fails if none answers within `timeout_s`.
        rendezvous: Loopback endpoint used without `listen` and `connect`: the first process of this machine listens
            there, the others connect to it.
        mode: "peer", "client" of a router, or "router".
        config: zenoh configuration, merged last (TLS, access control …): nested plain data, or the text of a JSON5
            file. Never printed.
        timeout_s: Seconds to wait for a connection when opening, and for a publisher behind a broken link.
        settle_s: Additional seconds that `until_end` waits for such a publisher; after that, messages that did not
            arrive are lost, and both ends count the same number.
    """

    gives: ClassVar[str] = "any"
    exact_fields: ClassVar[bool] = True

    key: str = attrs.field(validator=_key)
    raw: bool = attrs.field(default=False, validator=s.flag)
    by_encoding: bool = attrs.field(default=False, validator=s.flag)
    history: bool = attrs.field(default=False, validator=s.flag)
    tokens: str | None = attrs.field(default=None, validator=or_none(_key))
    end_marks: bool = attrs.field(default=False, validator=s.flag)
    until_end: bool = attrs.field(default=False, validator=s.flag)
    publishers: int = attrs.field(default=1, validator=s.at_least(1))
    first_within_s: float | None = attrs.field(default=None, validator=or_none(s.seconds))
    capacity: int = attrs.field(default=1024, validator=s.at_least(1))
    capacity_bytes: int = attrs.field(default=64 << 20, validator=s.at_least(1))
    listen: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints, validator=s.are_endpoints)
    connect: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints, validator=s.are_endpoints)
    rendezvous: str = attrs.field(default=RENDEZVOUS, validator=s.text)
    mode: str = attrs.field(default="peer", validator=one_of(*s.MODES))
    config: Mapping[str, Any] | str | None = attrs.field(default=None, repr=False)
    timeout_s: float = attrs.field(default=30.0, validator=s.seconds)
    settle_s: float = attrs.field(default=30.0, validator=s.seconds)
    _open: Subscription | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _lost: Mapping[str, int] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _rejected: int = attrs.field(default=0, init=False, repr=False, eq=False)
    _rejected_logged: tuple[int, float] = attrs.field(default=(0, 0.0), init=False, repr=False, eq=False)
    _broken: dict[str, bool] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _foreign_seq: dict[str, int] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _last_seqs: dict[str, int] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _presence: PresenceLog = attrs.field(factory=lambda: PresenceLog(""), init=False, repr=False, eq=False)
    _refused: list[tuple[Record, BaseException]] = attrs.field(factory=list, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Subscribe.

        Raises:
            SourceError: an endpoint cannot be reached; the message names it.
            ConfigError: an endpoint or `config` is invalid.
        """
        if self._open is not None:
            raise SourceError(f"{self._name()} is open already: close it first")
        arrivals = Arrivals(self.capacity, self.capacity_bytes, self.timeout_s, self.settle_s)
        self._lost, self._rejected, self._rejected_logged = arrivals.lost, 0, (0, 0.0)
        self._broken.clear()
        self._foreign_seq.clear()
        self._refused.clear()
        self._last_seqs.clear()
        self._presence = PresenceLog(self._name())
        history_s = min(self.timeout_s, _HISTORY_S) if self.history else 0.0
        self._open = open_session(
            self,
            lambda session: Subscription(
                session,
                self.key,
                arrivals,
                keep_ended=self.until_end,
                history_s=history_s,
                is_peer=is_plain_peer(self),
                presence=self._presence,
                tokens=self.tokens,
            ),
            name=self._name(),
            unreachable=SourceError,
        )

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the records that have arrived, at most `max_records`, waiting up to `timeout_s` seconds for the first.

        Raises:
            EndOfSource: all publishers have closed (`until_end`).
            SourceError: a publisher vanished without closing, or none appeared in time.
        """
        subscription = self._open
        if subscription is None:
            raise SourceError(f"{self._name()} is not open: call open() first")
        if not subscription.is_here():
            raise SourceError(f"{self._name()} was opened in another process, before a fork: open one here")
        deadline = time.monotonic() + timeout_s
        while True:
            taken = subscription.take(max_records, max(0.0, deadline - time.monotonic()))
            if taken:
                records = self._records(taken, subscription)
                if self.end_marks:
                    for record in records:
                        self._last_seqs[record.channel] = record.seq
                if records:
                    return records
            elif ends := self._ends(subscription.arrivals):
                return ends
            else:
                self._look_around(subscription)
            if time.monotonic() >= deadline:
                return ()

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many records of each channel were lost in transit since `open`. Thread-safe."""
        return dict(self._lost)

    def rejected(self) -> int:
        """Return how many messages since `open` were not records and were skipped. Thread-safe."""
        return self._rejected

    def remarks(self) -> Sequence[Remark]:
        """Return a sentence for each program that appeared or disappeared since `open`. Thread-safe."""
        return [Remark(note) for note in self._presence.notes()]

    def take_refused(self) -> Sequence[tuple[Record, BaseException]]:
        """Return the payloads since the last call that do not match their encoding, with the errors."""
        refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        """Close the session; records that have arrived and were not read are lost, and the stores report them."""
        subscription, self._open = self._open, None
        if subscription is not None and subscription.is_here():
            subscription.close()

    def _records(self, taken: Sequence[Arrival], subscription: Subscription) -> Sequence[Record]:
        records: list[Record] = []
        for arrival in taken:
            if arrival.is_foreign:
                records += self._foreign(arrival)
            elif arrival.packed is not None:
                records += self._packed(arrival, subscription.arrivals)
            else:
                record = self._record(arrival, subscription.arrivals)
                if record is not None:
                    records.append(record)
        for publisher in subscription.receipts_due(taken):
            subscription.send_receipt(publisher)
        self._log_rejected()
        return records

    def _packed(self, arrival: Arrival, arrivals: Arrivals) -> Sequence[Record]:
        """Return the records of a packed message."""
        packed, publisher, key = arrival.packed, arrival.publisher, arrival.key
        assert packed is not None  # checked by the caller
        records = arrival.unpacked
        try:
            if not records:
                payload = arrival.samples[0].payload.to_bytes()
                records = [join(packed.head, payload)] if packed.head else unpack_list(payload, packed.records)
                if arrival.unpacked is not None:
                    arrival.unpacked += records
        except CodecError as error:
            self._reject(key, error)
            if arrival.lost_before:
                arrivals.count_lost(publisher, publisher.channels.get(key, key), arrival.lost_before)
            return ()
        if arrival.unpacked is not None:
            records = records[arrival.start : arrival.stop]
        if publisher.channels.get(key) != records[-1].channel:
            wire.remember(publisher.channels, key, records[-1].channel)
        if arrival.lost_before:
            arrivals.count_lost(publisher, records[0].channel, arrival.lost_before)
        if arrival.breaks or (self._broken and key in self._broken):
            self._broken.pop(key, None)
            return [records[0].replace(discontinuity=True), *records[1:]]
        return records

    def _reject(self, key: str, error: BaseException) -> None:
        """Count and log a message that is not a record."""
        self._rejected += 1
        wire.remember(self._broken, key, True)
        if self._rejected == 1:
            _log.warning("%s: a message on %r is not a record and was skipped: %s", self._name(), key, error)
            self._rejected_logged = (1, time.monotonic())

    def _record(self, arrival: Arrival, arrivals: Arrivals) -> Record | None:
        sample, publisher, key = arrival.samples[0], arrival.publisher, arrival.key
        try:
            record = decode(sample.payload.to_bytes())
        except CodecError as error:
            if sample.encoding != zenoh.Encoding.ZENOH_BYTES:  # a store with another `encoding`
                if arrival.lost_before:
                    arrivals.count_lost(publisher, key, arrival.lost_before)
                return self._by_encoding(sample, time.time_ns(), by_encoding=True)
            self._reject(key, error)
            if arrival.lost_before:
                arrivals.count_lost(publisher, publisher.channels.get(key, key), arrival.lost_before)
            return None
        if publisher.channels.get(key) != record.channel:
            wire.remember(publisher.channels, key, record.channel)
        if arrival.lost_before:
            arrivals.count_lost(publisher, record.channel, arrival.lost_before)
        if arrival.breaks or (self._broken and key in self._broken):
            self._broken.pop(key, None)
            return record.replace(discontinuity=True)
        return record

    def _foreign(self, arrival: Arrival) -> Sequence[Record]:
        """Return the records of messages that penstock stores did not put."""
        samples = arrival.samples
        if arrival.stop - arrival.start < len(samples):
            samples = samples[arrival.start : arrival.stop]
        if self.raw and not self.by_encoding and arrival.is_whole:
            return foreign_records(samples, arrival.at_ns, self._foreign_seq)
        records = [self._foreign_record(sample, arrival.at_ns) for sample in samples]
        return [record for record in records if record is not None]

    def _foreign_record(self, sample: zenoh.Sample, at_ns: int) -> Record | None:
        """Return a record of a foreign sample: made of it, or, if not `raw`, the one that it holds."""
        if self.raw and sample.kind == _PUT:
            return self._by_encoding(sample, at_ns, by_encoding=self.by_encoding)
        key = str(sample.key_expr)
        try:
            record = decode(sample.payload.to_bytes())
        except CodecError as error:
            self._reject(key, error)
            return None
        return record.replace(discontinuity=True) if self._broken and self._broken.pop(key, False) else record

    def _by_encoding(self, sample: zenoh.Sample, at_ns: int, *, by_encoding: bool) -> Record | None:
        """Return a record of a sample, its data read by its encoding if wanted; None if that is refused."""
        try:
            return foreign_record(sample, at_ns, self._foreign_seq, by_encoding=by_encoding)
        except CodecError as error:
            last = {str(sample.key_expr): self._foreign_seq[str(sample.key_expr)] - 1}
            self._refused.append((foreign_record(sample, at_ns, last, by_encoding=False), error))
            return None

    def _ends(self, arrivals: Arrivals) -> Sequence[Record]:
        """Return the end marks of channels whose publisher has gone, once all of their records have been returned."""
        gone: list[Publisher | str] = []
        while arrivals.over:
            gone.append(arrivals.over.popleft())
        if not self.end_marks:
            return ()
        others = {channel for each in list(arrivals.publishers.values()) for channel in each.living_channels()}
        marks = []
        for each in gone:
            channels = self._below(each) if isinstance(each, str) else set(each.channels.values())
            for channel in sorted(channels - others):
                seq = self._last_seqs.pop(channel, None)
                if seq is not None:
                    marks.append(end_of_channel(channel, seq=seq + 1, time_ns=time.time_ns()))
        return marks

    def _below(self, token: str) -> set[str]:
        """Return the channels (keys) that end when this token of another program disappears."""
        base = token.rpartition("/")[0]
        return {each for each in self._last_seqs if each in (token, base) or each.startswith(f"{token}/")}

    def _look_around(self, subscription: Subscription) -> None:
        """Check, when no record waits, whether the source has ended."""
        arrivals = subscription.arrivals
        self._log_rejected()
        for publisher in arrivals.receipts_left():
            subscription.send_receipt(publisher)
        if self.first_within_s is not None and not subscription.seen():
            silent_s = time.monotonic() - subscription.since
            if silent_s >= self.first_within_s:
                raise SourceError(
                    f"{self._name()}: no publisher within {self.first_within_s:g} s: start it, compare its key and "
                    "endpoints with these, or increase first_within_s"
                )
        for publisher in arrivals.newly_vanished():
            publisher.is_noticed = True
            arrivals.over.append(publisher)
            _log.warning(
                "%s: %s vanished without closing after record %d; records that it had not sent are lost",
                self._name(),
                publisher.process,
                publisher.received,
            )
        if self.until_end and arrivals.have_ended(self.publishers):
            vanished = arrivals.vanished()
            if vanished:
                names = ", ".join(f"{each.process} (after record {each.received})" for each in vanished)
                raise SourceError(
                    f"{self._name()}: vanished without closing: {names}; records not sent by then are lost: "
                    "find out why it ended, and restart it",
                    retryable=False,
                )
            raise EndOfSource(f"{self._name()}: all publishers have closed")

    def _log_rejected(self) -> None:
        logged, at = self._rejected_logged
        if self._rejected > logged and time.monotonic() >= at + 1.0:
            _log.warning("%s: %d messages so far were not records and were skipped", self._name(), self._rejected)
            self._rejected_logged = (self._rejected, time.monotonic())

    def _name(self) -> str:
        return f"zenoh source {self.key!r}"
