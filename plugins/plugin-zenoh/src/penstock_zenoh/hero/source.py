"""HeroSource: receives the events of HEROs, and determines whether an acquisition is complete."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

import attrs
import zenoh

from penstock.arguments import checks_arguments
from penstock.component import Remark
from penstock.errors import CodecError, EndOfSource, SourceError
from penstock.record import Record
from penstock.validators import one_of, or_none
from penstock_zenoh import settings as s
from penstock_zenoh.arrivals import Arrival
from penstock_zenoh.hero.account import Account
from penstock_zenoh.hero.bounds import Bounds
from penstock_zenoh.hero.cbor import decode
from penstock_zenoh.hero.event import HeroEventError, Shape, data_and_metadata, event_key, read_event_key
from penstock_zenoh.hero.fed import Fed
from penstock_zenoh.hero.names import event_names, realm, selector, subscribed_event
from penstock_zenoh.hero.observation import Observation
from penstock_zenoh.hero.pair_form import PairForm, Sender
from penstock_zenoh.presence_log import PresenceLog
from penstock_zenoh.session import RENDEZVOUS, is_plain_peer, open_session
from penstock_zenoh.times import time_of
from penstock_zenoh.wire import remember

_ENDING_S = 0.1  # samples inside the intake arrive within this time
_IN_HAND = 512


@checks_arguments
@attrs.define(kw_only=True)
class HeroSource:
    """Receive events of HEROs as records with the event's data and metadata, and the HERO's name as channel.

    `heros` need not be installed. Events have no numbers, and HEROs send them with best effort: losses in transit can
    be found only by a counting key of the metadata (`sequence_key`) and by the bounds of an acquisition (`bounds`). The
    report counts missing events as lost upstream; an incomplete acquisition makes the run fail at its end. Events of
    another shape and payloads that are not CBOR are dead-lettered with their bytes.

    The metadata of a record are `default_metadata`, overridden by those of the event, with `source_name`, `event`,
    `realm`, `arrival_time_ns` and `acquisition` (the data of `acquisition_started`) unless `describe` is False. Arrays
    are read-only.

    Attributes:
        object_selector: Name of a HERO, or a zenoh selector: "*", "cam$*", "lab/**".
        event_name: Name of an event, or a list of names.
        realm: Realm of the HEROs, or a selector of realms; with a selector, channels are "<realm>/<name>".
        sequence_key: Metadata key that counts the events of a HERO from 0 or 1, such as "frame". A gap is counted as
            lost, a restarted count is a new series, and `seq` is derived from it.
        shape: "pair": an event is (data, metadata), or a dict used as both. "arrays": also a pair, whose data becomes a
            numpy array if it is a number or a list of numbers. "value": the whole event is the data.
            "observables": (name, value, unit), or a list of these; data is a dict of {"value", "unit"} by name.
        bounds: The events that begin and end an acquisition, in which events are counted; () disables acquisitions.
            None uses "acquisition_started" and "acquisition_stopped" if there is a `sequence_key`, or if an event is
            named "acquisition_…" (only such events are counted then). They are returned as records only if
            `event_name` includes them. If their names and `event_name` have no common prefix, this source receives
            all events of these HEROs.
        index: Directory for the accounts of acquisitions, one JSON file each; None writes them to the report only.
        default_metadata: Metadata of every record for keys that its event lacks. Trusted: an event does not replace a
            value with a directory (a string with "/", or the key "root").
        describe: False restricts the metadata to those of the event and `default_metadata`.
        until_silent_s: End if no event arrives for this many seconds after the first one; None waits for ever.
        capacity: Number of events that may wait here; at this limit zenoh holds back senders that block.
        capacity_bytes: Number of their bytes. Up to 256 events more may be on their way here, of any size.
        listen: zenoh endpoints to listen on. Default: see `rendezvous`.
        connect: zenoh endpoints to connect to, such as "tcp/camera.lab:7460"; opening fails if none answers.
        rendezvous: Loopback endpoint used without `listen` and `connect`: the first process of this machine listens
            there, the others connect to it.
        mode: "peer", "client" of a router, or "router".
        config: zenoh configuration, merged last: nested plain data, or the text of a JSON5 file. Never printed.
        heros_config: Without `listen`, `connect` and `config`, use the complete configuration of the environment
            variable HEROS_ZENOH_CONFIG, as heros does.
        timeout_s: Seconds to wait for a connection when opening.
    """

    gives: ClassVar[str] = "any"
    stays_valid: ClassVar[bool] = True

    object_selector: str = attrs.field(validator=selector)
    event_name: str | Sequence[str] = attrs.field(validator=event_names)
    realm: str = attrs.field(default="heros", validator=realm)
    sequence_key: str | None = attrs.field(default=None, validator=or_none(s.text))
    shape: Shape = attrs.field(default="pair", validator=one_of(*get_args(Shape)))
    bounds: Sequence[str] | None = None
    index: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    default_metadata: Mapping[str, Any] = attrs.field(factory=dict, validator=s.mapping)
    describe: bool = attrs.field(default=True, validator=s.flag)
    until_silent_s: float | None = attrs.field(default=None, validator=or_none(s.seconds))
    capacity: int = attrs.field(default=1024, validator=s.at_least(1))
    capacity_bytes: int = attrs.field(default=64 << 20, validator=s.at_least(1))
    listen: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints, validator=s.are_endpoints)
    connect: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints, validator=s.are_endpoints)
    rendezvous: str = attrs.field(default=RENDEZVOUS, validator=s.text)
    mode: str = attrs.field(default="peer", validator=one_of(*s.MODES))
    config: Mapping[str, Any] | str | None = attrs.field(default=None, repr=False)
    heros_config: bool = attrs.field(default=False, validator=s.flag)
    timeout_s: float = attrs.field(default=30.0, validator=s.seconds)
    _senders: dict[str, Sender] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _wanted: frozenset[str] = attrs.field(factory=frozenset, init=False, repr=False, eq=False)
    _fixed: Mapping[str, Any] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _bounds: Bounds = attrs.field(factory=lambda: Bounds((), frozenset()), init=False, repr=False, eq=False)
    _open: Observation | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _account: Account = attrs.field(factory=Account, init=False, repr=False, eq=False)
    _refused: list[tuple[Record, BaseException]] = attrs.field(factory=list, init=False, repr=False, eq=False)
    _presence: PresenceLog = attrs.field(factory=lambda: PresenceLog(""), init=False, repr=False, eq=False)
    _fed: Fed = attrs.field(factory=Fed, init=False, repr=False, eq=False)
    _left: int = attrs.field(default=0, init=False, repr=False, eq=False)
    _given: int = attrs.field(default=0, init=False, repr=False, eq=False)
    _last_ns: int = attrs.field(default=0, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Subscribe.

        Raises:
            SourceError: an endpoint cannot be reached; the message names it.
            ConfigError: an endpoint or `config` is invalid.
        """
        if self._open is not None:
            raise SourceError(f"{self._name()} is open already: close it first")
        self._account = Account(index=self.index, sequence_key=self.sequence_key)
        self._refused.clear()
        self._last_ns = 0
        self._fed.begin()
        self._presence = PresenceLog(self._name())
        self._senders.clear()
        self._wanted = frozenset(self._events())
        self._fixed = {name: value for name, value in self.default_metadata.items() if holds_directory(name, value)}
        self._bounds = Bounds.of(self._events(), self.bounds, is_counted=self.sequence_key is not None)
        events = subscribed_event((*self._events(), *self._bounds.names))
        key = event_key(self.realm, self.object_selector, events)
        self._open = open_session(
            self,
            lambda session: Observation(
                session,
                key,
                self.capacity,
                self.capacity_bytes,
                is_peer=is_plain_peer(self) and not self._whole(),
                health=event_key(self.realm, self.object_selector, "_health"),
                presence=self._presence,
            ),
            name=self._name(),
            unreachable=SourceError,
            whole=self._whole(),
        )

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the records of arrived events, at most `max_records`, waiting up to `timeout_s` seconds for the first.

        Events that become no records, such as bounds, do not shorten this time; invalid events do, so that they are
        dead-lettered at once. Raises EndOfSource after `end_soon`, or after `until_silent_s` without an event.
        """
        observation = self._open
        if observation is None:
            raise SourceError(f"{self._name()} is not open: call open() first")
        if not observation.is_here():
            raise SourceError(f"{self._name()} was opened in another process, before a fork: open one here")
        until = time.monotonic() + timeout_s
        while True:
            is_ending = self._fed.has_ended
            records = self._received(observation, max_records, max(0.0, until - time.monotonic()), is_ending=is_ending)
            if records or self._refused or is_ending or time.monotonic() >= until:
                break
        now = time.monotonic_ns()
        if records:
            self._last_ns = now
        elif self.until_silent_s and self._last_ns and now - self._last_ns > self.until_silent_s * 1e9:
            raise EndOfSource(f"{self._name()}: no event for {self.until_silent_s:g} s")
        self._given += len(records)
        return records

    def _received(self, observation: Observation, most: int, timeout_s: float, *, is_ending: bool) -> list[Record]:
        """Return the records of the events that arrive first, of which there may be none."""
        records = [record for event in self._fed.take(most) for record in self._of_fed(*event)]
        if records:
            return records
        if is_ending:
            most, timeout_s = min(most, self._left), _ENDING_S
        arrivals = observation.take(most, timeout_s) if most else []
        self._left -= sum(each.stop - each.start for each in arrivals) if is_ending else 0
        if is_ending and not arrivals and not self._fed.waiting:
            raise EndOfSource(f"{self._name()}: ended by `end_soon`")
        for arrival in arrivals:
            records += self._of_arrival(arrival)
        return records

    def feed(self, source_name: str, value: Any) -> None:
        """Accept an event as if this HERO had sent it; waits while the queue is full. Thread-safe."""
        self._fed.put((source_name, self._events()[0], self.realm, value))

    def end_soon(self) -> None:
        """Accept no more events; `read` returns the remaining ones, then raises EndOfSource. Thread-safe."""
        observation = self._open
        # Count the events inside now: a HERO that keeps sending must not keep the run from ending.
        self._left = self.capacity + _IN_HAND + (0 if observation is None else observation.waiting())
        self._fed.end()
        if observation is not None:
            observation.wake()

    def take_refused(self) -> Sequence[tuple[Record, BaseException]]:
        """Return the invalid events since the last call, with their bytes and the errors."""
        refused, self._refused = self._refused, []
        return refused

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many events of each HERO are known to be missing since `open`. Thread-safe."""
        return self._account.lost()

    def lag(self) -> int:
        """Return how many events wait here to be read. Thread-safe."""
        observation = self._open
        return len(self._fed.waiting) + (0 if observation is None else observation.waiting())

    def remarks(self) -> Sequence[Remark]:
        """Return incomplete acquisitions as a warning; complete ones, and HEROs that appeared or disappeared."""
        warning, notes = self._account.remark(), [*self._account.notes(), *self._presence.notes()]
        return [*([Remark(warning, "warning")] if warning else []), *map(Remark, notes)]

    def mark(self) -> int:
        """Return how many records `read` has returned."""
        return self._given

    def given_up(self, channel: str) -> None:
        """Note an event of this HERO that arrived and was not stored; any thread."""
        self._account.given_up(channel)

    def durable(self, position: int) -> None:
        """Record that everything before `position` is stored; write the accounts of completely stored acquisitions."""
        self._account.durable(position)

    def close(self) -> None:
        """Close the session. Raises SourceError, once, that names each incomplete acquisition."""
        observation, self._open = self._open, None
        if observation is None or not observation.is_here():
            return
        observation.close()
        self._account.close(self._name())

    def _of_arrival(self, arrival: Arrival) -> Sequence[Record]:
        """Return the records of events that arrived together; those of one form are read and counted together."""
        records: list[Record] = []
        alike: list[tuple[Any, dict[str, Any]]] = []
        sender: Sender | None = None
        last_key = ""
        for sample in arrival.samples[arrival.start : arrival.stop]:
            key = str(sample.key_expr)
            payload = sample.payload.to_bytes()
            if sender is not None and key == last_key and sender.form is not None and sample.timestamp is None:
                pair = sender.form.read(payload)
                if pair is not None:
                    alike.append(pair)
                    continue
            if alike and sender is not None:
                records += self._of_pairs(sender, alike, arrival.at_ns)
                alike = []
            last_key, sender = key, self._sender(key)
            if sender is not None and (payload or sample.kind == zenoh.SampleKind.PUT):  # a deletion has no payload
                records += self._of_payload(sender, payload, sample.timestamp, arrival.at_ns)
        if alike and sender is not None:
            records += self._of_pairs(sender, alike, arrival.at_ns)
        return records

    def _sender(self, key: str) -> Sender | None:
        """Return the event and the HERO of a key, or None if its events are not wanted."""
        sender = self._senders.get(key)
        if sender is None:
            names = read_event_key(key)
            if names is None or not (names[2] in self._wanted or names[2] in self._bounds.names):
                return None
            sender = Sender(*names)
            remember(self._senders, key, sender)
        return sender

    def _of_payload(
        self, sender: Sender, payload: bytes, stamp: zenoh.Timestamp | None, at_ns: int
    ) -> Sequence[Record]:
        realm_name, hero, event = sender.realm, sender.hero, sender.event
        try:
            value = decode(payload)
        except CodecError as error:
            self._refuse(payload, hero, realm_name, event, error)
            return ()
        if self.shape in ("pair", "arrays") and event in self._wanted and event not in self._bounds.names:
            sender.form = PairForm.of(payload, value)
        return self._of_value(hero, event, realm_name, value, payload, *time_of(stamp, at_ns), at_ns)

    def _of_pairs(self, sender: Sender, pairs: Sequence[tuple[Any, dict[str, Any]]], at_ns: int) -> list[Record]:
        """Return the records of events (array, metadata) of one HERO that arrived together."""
        event = sender.event
        channel = self._channel(sender.hero, sender.realm)
        seqs = self._account.take_all(
            channel,
            event,
            [said for _, said in pairs],
            mark=self._given + 1,
            is_frame=event in self._bounds.frames,
        )
        description = self._description(sender.hero, event, sender.realm, channel, at_ns, "arrival")
        defaults, fixed = self.default_metadata, self._fixed
        records: list[Record] = []
        for (data, metadata), (seq, continues) in zip(pairs, seqs, strict=True):
            if defaults:
                metadata = {**defaults, **metadata, **fixed}
            if description:
                metadata.update(description)
            record = Record(data, channel=channel, seq=seq, time_ns=at_ns, metadata=metadata)
            records.append(record if continues else record.replace(discontinuity=True))
        return records

    def _of_fed(self, hero: str, event: str, realm_name: str, value: Any) -> Sequence[Record]:
        now_ns = time.time_ns()
        return self._of_value(hero, event, realm_name, value, value, now_ns, "arrival", now_ns)

    def _of_value(
        self,
        hero: str,
        event: str,
        realm_name: str,
        value: Any,
        payload: Any,
        time_ns: int,
        time_from: str,
        arrived_ns: int,
    ) -> Sequence[Record]:
        channel = self._channel(hero, realm_name)
        bounds = self._bounds.names
        try:
            if event in bounds:
                is_start = event == bounds[0]
                self._account.bound(channel, realm_name, value, time_ns, mark=self._given, is_start=is_start)
            if event not in self._wanted:
                return ()
            data, said = data_and_metadata(value, self.shape)
        except HeroEventError as error:
            self._refuse(payload, hero, realm_name, event, error)
            return ()
        if event in bounds:
            seq, continues = self._account.number(channel), True
        else:
            is_frame = event in self._bounds.frames
            seq, continues = self._account.take(channel, event, said, mark=self._given + 1, is_frame=is_frame)
        metadata = {**self.default_metadata, **said, **self._fixed}
        metadata |= self._description(hero, event, realm_name, channel, arrived_ns, time_from)
        return (
            Record(data, channel=channel, seq=seq, time_ns=time_ns, metadata=metadata, discontinuity=not continues),
        )

    def _refuse(self, payload: Any, hero: str, realm_name: str, event: str, error: BaseException) -> None:
        channel = self._channel(hero, realm_name)
        metadata = {"source_name": hero, "event": event, "realm": realm_name}
        record = Record(
            payload, channel=channel, seq=self._account.number(channel), time_ns=time.time_ns(), metadata=metadata
        )
        self._refused.append((record, error))

    def _channel(self, hero: str, realm_name: str) -> str:
        return f"{realm_name}/{hero}" if "*" in self.realm else hero

    def _description(
        self, hero: str, event: str, realm_name: str, channel: str, arrived_ns: int, time_from: str
    ) -> dict[str, Any]:
        """Return the metadata that `describe` adds to those of an event."""
        if not self.describe:
            return {}
        found: dict[str, Any] = {
            "source_name": hero,
            "event": event,
            "realm": realm_name,
            "arrival_time_ns": arrived_ns,
            "time_from": time_from,
        }
        if acquisition := self._account.configuration(channel):
            found["acquisition"] = acquisition
        return found

    def _events(self) -> tuple[str, ...]:
        return (self.event_name,) if isinstance(self.event_name, str) else tuple(self.event_name)

    def _whole(self) -> str | None:
        """Return the configuration that heros would use, if `heros_config` is set and nothing else is given."""
        given = self.listen is not None or self.connect is not None or bool(self.config)
        return os.environ.get("HEROS_ZENOH_CONFIG") or None if self.heros_config and not given else None

    def _name(self) -> str:
        return f"hero source {self.object_selector!r}, event {', '.join(self._events())}"


def holds_directory(name: str, value: Any) -> bool:
    """Return whether a default value has a directory, which no event may replace."""
    return name == "root" or isinstance(value, Path) or (isinstance(value, str) and "/" in value)
