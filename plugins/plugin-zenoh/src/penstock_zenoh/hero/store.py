"""HeroStore: emits records as the events of a HERO."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import zenoh

from penstock.arguments import checks_arguments
from penstock.errors import CannotConnectToStoreError, CodecError, ConfigError, StoreError
from penstock.record import Record
from penstock.validators import one_of
from penstock_zenoh import settings as s
from penstock_zenoh.announcement import Announcement
from penstock_zenoh.hero import names
from penstock_zenoh.hero.cbor_out import encode
from penstock_zenoh.hero.event import event_key
from penstock_zenoh.hero.presence import Presence
from penstock_zenoh.library_errors import forget, is_library_error, keep_in_children
from penstock_zenoh.session import RENDEZVOUS, close_session, is_plain_peer, open_session

_OURS = frozenset(("source_name", "event", "realm", "arrival_time_ns", "time_from", "acquisition"))


@checks_arguments
@attrs.define(kw_only=True)
class HeroStore:
    """Emit each record as an event: `(data, metadata)`, or one dict if data and metadata are the same object.

    HEROs send no receipts: an event is sent reliably and waits for slow subscribers, but it is not confirmed; `sync`
    returns when zenoh has accepted all events. Metadata that the `hero` source added are not sent.

    Attributes:
        hero: Name of the HERO.
        event_name: Name of the event.
        realm: Its realm.
        discoverable: True answers discovery queries with the HERO and its event; else observers must know the name.
        realtime: Keep the intervals between the records (`time_ns`) between their events, to replay an archived run.
        wait_for_observers: True waits up to `timeout_s` in the first `write` until an observer subscribes to the event.
        listen: zenoh endpoints to listen on. Default: see `rendezvous`.
        connect: zenoh endpoints to connect to; opening fails if none answers.
        rendezvous: Loopback endpoint used without `listen` and `connect`: the first process of this machine listens
            there, the others connect to it.
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
    listen: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints, validator=s.are_endpoints)
    connect: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints, validator=s.are_endpoints)
    rendezvous: str = attrs.field(default=RENDEZVOUS, validator=s.text)
    mode: str = attrs.field(default="peer", validator=one_of(*s.MODES))
    config: Mapping[str, Any] | str | None = attrs.field(default=None, repr=False)
    timeout_s: float = attrs.field(default=30.0, validator=s.seconds)
    _open: _Emission | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Open a session.

        Raises:
            CannotConnectToStoreError: an endpoint cannot be reached; the message names it.
            ConfigError: an endpoint, `realm` or `config` is invalid.
        """
        if self._open is not None:
            raise StoreError(f"{self._name()} is open already: close it first", retryable=False)
        if "*" in self.realm:
            raise ConfigError(f"{self._name()}: realm={self.realm!r}: a HERO has one realm, without '*'")
        self._open = open_session(
            self,
            lambda session: _Emission(session, self),
            name=self._name(),
            unreachable=CannotConnectToStoreError,
        )

    def write(self, records: Sequence[Record]) -> None:
        """Emit the records; waits for slow subscribers. Raises StoreError with the records that were not emitted."""
        emission = self._opened()
        if self.wait_for_observers and not emission.is_observed(self.timeout_s):
            raise StoreError(
                f"{self._name()}: no observer within {self.timeout_s:g} s: start the observer, compare name, "
                "event, realm and endpoints, or set wait_for_observers=False",
                failed=[(record, TimeoutError("no observer")) for record in records],
            )
        failed: list[tuple[Record, BaseException]] = []
        for record in records:
            try:
                if self.realtime:
                    emission.wait_until(record.time_ns)
                emission.emit(encode(_value(record)))
            except BaseException as error:  # a panic of the library is not an Exception
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
        """Return at once: zenoh has accepted all written events, and HEROs confirm nothing beyond that."""
        self._opened()

    def close(self) -> None:
        """Send the events that zenoh still holds, and close the session."""
        emission, self._open = self._open, None
        if emission is not None and emission.is_here():
            emission.close()

    def _opened(self) -> _Emission:
        if self._open is None:
            raise StoreError(f"{self._name()} is not open: call open() first", retryable=False)
        if not self._open.is_here():
            raise StoreError(
                f"{self._name()} was opened in another process, before a fork: open one here", retryable=False
            )
        return self._open

    def _name(self) -> str:
        return f"hero store {self.hero!r}, event {self.event_name}"


def _value(record: Record) -> Any:
    """Return the value of a record's event."""
    metadata = {name: value for name, value in record.metadata.items() if name not in _OURS}
    data = record.data
    if isinstance(data, Mapping) and all(name in data and data[name] is value for name, value in metadata.items()):
        return dict(data)
    return [data, metadata]


class _Emission:
    """An open session with its publisher and the HERO's presence."""

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
        """Return whether this process opened the session; a fork has none of zenoh's threads."""
        return self._process == os.getpid()

    def is_observed(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` seconds until an observer subscribes to the event; return whether one has."""
        deadline = time.monotonic() + timeout_s
        while not self._publisher.matching_status.matching:  # type: ignore[attr-defined]  # its stub says bool
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def wait_until(self, time_ns: int) -> None:
        """Wait until the time since the first event equals the time between its record and one of `time_ns`."""
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
        close_session(self._session, self._held)
        forget(self)
