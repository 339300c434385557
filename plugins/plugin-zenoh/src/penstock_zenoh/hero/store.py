"""HeroStore: emits records as the events of a HERO, for all who observe HEROs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import zenoh

from penstock.errors import CannotConnectToStoreError, CodecError, ConfigError, StoreError
from penstock.record import Record
from penstock_zenoh import settings as s
from penstock_zenoh.announcement import Announcement
from penstock_zenoh.hero import names
from penstock_zenoh.hero.cbor_out import encode
from penstock_zenoh.hero.event import event_key
from penstock_zenoh.hero.presence import Presence
from penstock_zenoh.outside import forget, is_library_error, keep_in_children
from penstock_zenoh.session import RENDEZVOUS, is_plain_peer, let_go, open_session

_OURS = frozenset(("source_name", "event", "realm", "arrival_time_ns", "time_from", "acquisition"))


@attrs.define(kw_only=True)
class HeroStore:
    """Emit each record as an event: `(data, metadata)`, or one dict where data and metadata are the same.

    HEROs give no receipts: an event is sent reliably, and waits for a subscriber that is slow, but nobody confirms
    it; `sync` returns when all is handed to zenoh. What the source of HEROs adds to metadata is not sent again.

    Attributes:
        hero: Name of the HERO.
        event_name: Name of the event.
        realm: Its realm.
        discoverable: Be seen by those who look for HEROs, with its event; else only those who know the name observe it.
        realtime: Wait between two events as long as lay between their records (`time_ns`), to replay an archived run.
        wait_for_observers: True waits in the first `write` until somebody observes the event, `timeout_s` at most.
        listen: zenoh endpoints to listen on. Default: see `rendezvous`.
        connect: zenoh endpoints to connect to; opening fails if none answers.
        rendezvous: Without `listen` and `connect`: the loopback endpoint where processes of this machine meet.
        mode: "peer", "client" of a router, or "router".
        config: zenoh configuration, merged last. Never printed.
        timeout_s: Seconds to wait for a connection, and for observers.
    """

    takes: ClassVar[str] = "any"

    hero: str = attrs.field(validator=names.name)
    event_name: str = attrs.field(validator=names.event)
    realm: str = attrs.field(default="heros", validator=names.realm)
    discoverable: bool = attrs.field(default=False, validator=s.flag)
    realtime: bool = attrs.field(default=False, validator=s.flag)
    wait_for_observers: bool = attrs.field(default=False, validator=s.flag)
    listen: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints)
    connect: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints)
    rendezvous: str = attrs.field(default=RENDEZVOUS, validator=s.text)
    mode: str = attrs.field(default="peer", validator=attrs.validators.in_(s.MODES))
    config: Mapping[str, Any] | str | None = attrs.field(default=None, repr=False)
    timeout_s: float = attrs.field(default=30.0, validator=s.seconds)
    _open: _Emission | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Open a session. Raises CannotConnectToStoreError naming the endpoint; ConfigError for one that is none."""
        if self._open is not None:
            raise StoreError(f"{self._name()} is open already: close it first", retryable=False)
        if "*" in self.realm:
            raise ConfigError(f"{self._name()}: realm={self.realm!r}: a HERO is of one realm")
        self._open = open_session(
            self,
            lambda session: _Emission(session, self),
            name=self._name(),
            unreachable=CannotConnectToStoreError,
        )

    def write(self, records: Sequence[Record]) -> None:
        """Emit them; waits for subscribers that are slow. Raises StoreError naming those that were not emitted."""
        emission = self._opened()
        if self.wait_for_observers and not emission.is_observed(self.timeout_s):
            raise StoreError(
                f"{self._name()}: nobody observes it within {self.timeout_s:g} s: start the observer, compare name, "
                "event, realm and endpoints, or set wait_for_observers=False",
                failed=[(record, TimeoutError("nobody observes it")) for record in records],
            )
        failed: list[tuple[Record, BaseException]] = []
        for record in records:
            try:
                if self.realtime:
                    emission.wait_until(record.time_ns)
                emission.emit(encode(_value(record)))
            except BaseException as error:  # a panic of the library is no Exception
                if not is_library_error(error):
                    raise
                failed.append((record, error))
        if failed:
            first = failed[0][1]
            raise StoreError(
                f"{self._name()}: {len(failed)} of {len(records)} records not emitted; the first: {first}",
                failed=failed,
                retryable=not isinstance(first, CodecError),
            ) from first

    def sync(self) -> None:
        """Return: what was written is with zenoh, and nobody can say more."""
        self._opened()

    def close(self) -> None:
        """Send what zenoh still holds, and leave."""
        emission, self._open = self._open, None
        if emission is not None and emission.is_here():
            emission.close()

    def _opened(self) -> _Emission:
        if self._open is None:
            raise StoreError(f"{self._name()} is not open: call open() first", retryable=False)
        if not self._open.is_here():
            raise StoreError(
                f"{self._name()} was opened by another process, of which this is a fork: open one here", retryable=False
            )
        return self._open

    def _name(self) -> str:
        return f"hero store {self.hero!r}, event {self.event_name}"


def _value(record: Record) -> Any:
    """Return what the event of a record is."""
    metadata = {name: value for name, value in record.metadata.items() if name not in _OURS}
    data = record.data
    if isinstance(data, Mapping) and all(name in data and data[name] is value for name, value in metadata.items()):
        return dict(data)
    return [data, metadata]


class _Emission:
    """An open session, its publisher, and what makes the HERO seen."""

    def __init__(self, session: zenoh.Session, store: HeroStore) -> None:
        self._process = os.getpid()
        self._session = session
        self._began: tuple[int, float] | None = None
        publisher = session.declare_publisher(
            event_key(store.realm, store.hero, store.event_name),
            congestion_control=zenoh.CongestionControl.BLOCK,
            reliability=zenoh.Reliability.RELIABLE,
        )
        self._publisher = publisher
        held: list[Any] = [publisher, Announcement(session, is_peer=is_plain_peer(store))]
        if store.discoverable:
            held += Presence(store.realm, store.hero, store.event_name).declare(session)
        self._held = tuple(held)
        keep_in_children(self)

    def is_here(self) -> bool:
        """Return whether this process opened it; a fork has none of zenoh's threads."""
        return self._process == os.getpid()

    def is_observed(self, timeout_s: float) -> bool:
        """Wait until somebody subscribes to the event."""
        deadline = time.monotonic() + timeout_s
        while not self._publisher.matching_status.matching:  # type: ignore[attr-defined]  # its stub says bool
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def wait_until(self, time_ns: int) -> None:
        """Wait until it is as long since the first event as lay between its record and this one."""
        now = time.monotonic()
        if self._began is None:
            self._began = (time_ns, now)
            return
        first_ns, began = self._began
        wait_s = began + (time_ns - first_ns) / 1e9 - now
        if wait_s > 0:
            time.sleep(wait_s)

    def emit(self, payload: bytes) -> None:
        """Send an event."""
        self._publisher.put(payload)

    def close(self) -> None:
        """Undeclare, and close the session."""
        let_go(self._session, self._held)
        forget(self)
