"""ZenohStore: publishes records on zenoh keys, never faster than the sources there take them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, get_args

import attrs

from penstock.errors import CannotConnectToStoreError, ConfigError, StoreError, TemplateError
from penstock.record import Record
from penstock.templates import Template
from penstock_zenoh import settings as s
from penstock_zenoh import wire
from penstock_zenoh.keys import TEMPLATE_OPENINGS, key_problem
from penstock_zenoh.outside import has_panicked, is_library_error
from penstock_zenoh.payloads import Form
from penstock_zenoh.publishing import Publishing, Settings
from penstock_zenoh.session import RENDEZVOUS, is_plain_peer, open_session

_PRIORITIES = (
    "real_time",
    "interactive_high",
    "interactive_low",
    "data_high",
    "data",
    "data_low",
    "background",
)
_log = logging.getLogger(__name__)


def _template(_: object, __: object, value: str) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"key={value!r}: must be a key or a template of one, as 'lab/camera/{{{{ channel }}}}'")
    try:
        Template(value)
    except TemplateError as error:
        raise ConfigError(f"key={value!r}: {error}") from error
    if len(value.encode(errors="replace")) > wire.MOST_CARD_KEY_BYTES:
        raise ConfigError(f"key={value[:40]!r}…: is longer than {wire.MOST_CARD_KEY_BYTES} bytes; shorten it")
    if not any(mark in value for mark in TEMPLATE_OPENINGS):
        problem = key_problem(value)
        if problem:
            raise ConfigError(f"key={value!r}: {problem}")


@attrs.define(kw_only=True)
class ZenohStore:
    """Publish records over zenoh; each source that subscribes gets them in order, none is lost without an error.

    Backpressure is real: `write` waits while a source has as many records waiting as it lets (its `capacity`), as
    long as that source is there. Nothing is published before `wait_for_subscribers` sources are there. Subscribers
    that are not penstock sources get the same payloads with congestion control *block*; they give no receipts.

    A source that is killed loses what it had not taken; the next `sync` or `close` says how much. A source behind a
    broken link is waited for, `timeout_s` at most: the store keeps what the source had not taken (as much as it lets
    wait: `capacity`, `capacity_bytes`), waits when that is full, and sends again what had not arrived, in order.
    Beyond that time the source is given up: nothing more is kept for it, and `sync` is an error. When it comes back it
    counts what it misses, and the store reports the same number; `close` waits for that, `settle_s` at most.

    Attributes:
        key: Key to publish on, a jinja2 template: "lab/camera/{{ channel }}".
        listen: zenoh endpoints to listen on, as "tcp/0.0.0.0:7450". Default: see `rendezvous`.
        connect: zenoh endpoints to connect to; opening fails if none answers.
        rendezvous: Without `listen` and `connect`: the loopback endpoint where processes of this machine meet.
        mode: "peer", "client" of a router, or "router".
        encoding: "record" publishes all of a record, for penstock. "bytes", "json" and "cbor" publish its data alone,
            with that content type, for other programs; a penstock source makes new records of these.
        priority: zenoh's priority: "real_time", "interactive_high", "interactive_low", "data_high", "data",
            "data_low", "background".
        express: True sends each record at once, where zenoh would collect small ones.
        config: zenoh configuration, merged last (TLS, access control …): nested plain data, or the text of a JSON5
            file. Never printed.
        bundle: None sends lists of small records of one key as one message, and large data without a copy, while
            everybody connected is an end of penstock (no router, no client, no other program); else each record is a
            message that others can read, too. True and False force it. With True other programs cannot read it.
        memory_bytes: Bytes of records that are kept here until all sources have taken them; then `write` waits. What
            waits before it can go to the disk: `ps.edge(when_full=ps.Spill(directory))`. A single larger one passes.
        wait_for_subscribers: How many sources must subscribe to a key before anything is published on it; 0 to
            publish into the void.
        timeout_s: Seconds to wait for a connection, for those sources, and for their receipts. A connection behind
            which nobody takes anything for so long (a frozen process; a foreign subscriber that blocks) is closed.
        settle_s: How much longer `close` waits for a source behind a broken link that was given up, so that both ends
            count the same records as lost.
    """

    takes: ClassVar[str] = "any"

    key: str = attrs.field(validator=_template)
    listen: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints)
    connect: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints)
    rendezvous: str = attrs.field(default=RENDEZVOUS, validator=s.text)
    mode: str = attrs.field(default="peer", validator=attrs.validators.in_(s.MODES))
    encoding: Form = attrs.field(default="record", validator=attrs.validators.in_(get_args(Form)))
    priority: str = attrs.field(default="data", validator=attrs.validators.in_(_PRIORITIES))
    express: bool = attrs.field(default=False, validator=s.flag)
    config: Mapping[str, Any] | str | None = attrs.field(default=None, repr=False)
    bundle: bool | None = attrs.field(default=None, validator=attrs.validators.optional(s.flag))
    memory_bytes: int = attrs.field(default=256 << 20, validator=s.at_least(1))
    wait_for_subscribers: int = attrs.field(default=1, validator=s.at_least(0))
    timeout_s: float = attrs.field(default=30.0, validator=s.seconds)
    settle_s: float = attrs.field(default=30.0, validator=s.seconds)
    _open: Publishing | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _unconfirmed: list[str] = attrs.field(factory=list, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Open a session. Raises CannotConnectToStoreError naming the endpoint; ConfigError for one that is none."""
        if self._open is not None:
            raise StoreError(f"{self._name()} is open already: close it first", retryable=False)
        self._unconfirmed.clear()
        self._open = self._publishing()

    def _publishing(self) -> Publishing:
        return open_session(
            self,
            lambda session: Publishing(session, self._settings()),
            name=self._name(),
            unreachable=CannotConnectToStoreError,
        )

    def _settings(self) -> Settings:
        return Settings(
            key=self.key,
            encoding=self.encoding,
            priority=self.priority,
            express=self.express,
            bundle=self.bundle,
            wait_for_subscribers=self.wait_for_subscribers,
            memory_bytes=self.memory_bytes,
            timeout_s=self.timeout_s,
            settle_s=self.settle_s,
            is_peer=is_plain_peer(self),
        )

    def _renew(self, publishing: Publishing, error: BaseException) -> Publishing:
        """Replace a session that panicked; `sync` reports what it had not confirmed."""
        _log.error("%s: the zenoh library panicked (%s); going on with a new session", self._name(), error)
        self._unconfirmed += publishing.unconfirmed()
        self._open = None
        publishing.close()
        self._open = self._publishing()
        return self._open

    def write(self, records: Sequence[Record]) -> None:
        """Publish; waits while a source is full. Raises StoreError naming the records that were not published."""
        publishing = self._opened()
        failed: list[tuple[Record, BaseException]] = []
        index = 0
        while index < len(records):
            try:
                index += publishing.publish(records, index)
            except BaseException as error:  # a panic of the library is no Exception
                if not is_library_error(error):
                    raise
                failed.append((records[index], error))
                index += 1
                if isinstance(error, StoreError) and error.retryable:
                    failed.extend((rest, error) for rest in records[index:])
                    break
                if has_panicked(error):
                    publishing = self._renew(publishing, error)
        if failed:
            first = failed[0][1]
            retryable = any(getattr(error, "retryable", False) for _, error in failed)
            raise StoreError(
                f"{self._name()}: {len(failed)} of {len(records)} records not published; the first: {first}",
                failed=failed,
                retryable=retryable,
            ) from first

    def sync(self) -> None:
        """Return when every penstock source there has received in its process all that was published to it.

        Received, not stored: what the source's process has not stored yet dies with it. Subscribers that are not
        penstock sources are not asked. Raises StoreError, once for each loss, naming the source.
        """
        self._confirm(self._opened(), at_end=False)

    def close(self) -> None:
        """Tell the sources that this is the end, wait until they know (`timeout_s` at most), and let go."""
        publishing, self._open = self._open, None
        if publishing is None or not publishing.is_here():
            return
        try:
            self._confirm(publishing, at_end=True)
        finally:
            publishing.close()

    def _confirm(self, publishing: Publishing, *, at_end: bool) -> None:
        problems = self._unconfirmed + publishing.confirm(at_end=at_end)
        self._unconfirmed.clear()
        if problems:
            raise StoreError(f"{self._name()}: {'; '.join(problems)}", retryable=False)

    def _opened(self) -> Publishing:
        if self._open is None:
            raise StoreError(f"{self._name()} is not open: call open() first", retryable=False)
        if not self._open.is_here():
            raise StoreError(
                f"{self._name()} was opened by another process, of which this is a fork: open one here", retryable=False
            )
        return self._open

    def _name(self) -> str:
        return f"zenoh store {self.key!r}"
