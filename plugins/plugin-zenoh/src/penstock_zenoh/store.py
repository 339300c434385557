"""ZenohStore: publishes records on zenoh keys, no faster than the subscribed sources take them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, get_args

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import CannotConnectToStoreError, ConfigError, StoreError, TemplateError
from penstock.record import Record
from penstock.short_text import short
from penstock.templates import Template
from penstock.validators import one_of, or_none
from penstock_zenoh import settings as s
from penstock_zenoh import wire
from penstock_zenoh.keys import TEMPLATE_OPENINGS, key_problem
from penstock_zenoh.library_errors import has_panicked, is_library_error
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
        raise ConfigError(
            f"key={short(value)}: must be a key or a template of one, such as 'lab/camera/{{{{ channel }}}}'"
        )
    try:
        Template(value)
    except TemplateError as error:
        raise ConfigError(f"key={short(value)}: {error}") from error
    if len(value.encode(errors="replace")) > wire.MOST_CARD_KEY_BYTES:
        raise ConfigError(f"key={value[:40]!r}…: is longer than {wire.MOST_CARD_KEY_BYTES} bytes: shorten it")
    if not any(mark in value for mark in TEMPLATE_OPENINGS):
        problem = key_problem(value)
        if problem:
            raise ConfigError(f"key={short(value)}: {problem}")


@checks_arguments
@attrs.define(kw_only=True)
class ZenohStore:
    """Publish records over zenoh: each subscribed source receives them in order, and every loss is an error.

    Backpressure: `write` waits while a present source has `capacity` records waiting. Nothing is published before
    `wait_for_subscribers` sources are present. Subscribers that are not penstock sources receive the same payloads with
    congestion control *block*; they send no receipts.

    A source that is killed loses the records that it had not taken; the next `sync` or `close` reports their number.
    For a source behind a broken link the store waits up to `timeout_s`: it keeps the untaken records (up to the
    source's `capacity` and `capacity_bytes`), waits when that is full, and repeats the ones that had not arrived, in
    order. After that time the source is given up: nothing more is kept for it, and `sync` raises. When it reconnects it
    counts the missing records, and the store reports the same number; `close` waits up to `settle_s` for that.

    Attributes:
        key: Key to publish on, a jinja2 template such as "lab/camera/{{ channel }}".
        listen: zenoh endpoints to listen on, such as "tcp/0.0.0.0:7450". Default: see `rendezvous`.
        connect: zenoh endpoints to connect to; opening fails if none answers.
        rendezvous: Loopback endpoint used without `listen` and `connect`: the first process of this machine listens
            there, the others connect to it.
        mode: "peer", "client" of a router, or "router".
        encoding: "record" publishes the whole record, for penstock. "bytes", "json" and "cbor" publish its data alone,
            with that content type, for other programs; a penstock source makes new records from these.
        priority: zenoh's priority: "real_time", "interactive_high", "interactive_low", "data_high", "data",
            "data_low", "background".
        express: True sends each record immediately; False lets zenoh batch small ones.
        config: zenoh configuration, merged last (TLS, access control …): nested plain data, or the text of a JSON5
            file. Never printed.
        bundle: None sends small records of one key as one message, and large data without a copy, while all connected
            programs are penstock (no router, no client, no other program); otherwise each record is a message that
            other programs can read. True and False force either; other programs cannot read the messages with True.
        memory_bytes: Bytes of records to keep until all sources have taken them; at this limit `write` waits. A single
            larger record passes. Records that wait before this store can be kept on disk:
            `ps.edge(when_full=ps.Spill(directory))`.
        wait_for_subscribers: Number of sources that must subscribe to a key before anything is published on it; 0
            publishes without subscribers.
        timeout_s: Seconds to wait for a connection, for those sources, and for their receipts. A connection that
            accepts no data for this time, at most 10 s (a cut cable; a frozen process; a foreign subscriber that
            blocks), is closed, and opened again when the other side answers.
        settle_s: Additional seconds that `close` waits for a source behind a broken link that was given up, so that
            both ends count the same records as lost.
    """

    takes: ClassVar[str] = "any"

    key: str = attrs.field(validator=_template)
    listen: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints, validator=s.are_endpoints)
    connect: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints, validator=s.are_endpoints)
    rendezvous: str = attrs.field(default=RENDEZVOUS, validator=s.text)
    mode: str = attrs.field(default="peer", validator=one_of(*s.MODES))
    encoding: Form = attrs.field(default="record", validator=one_of(*get_args(Form)))
    priority: str = attrs.field(default="data", validator=one_of(*_PRIORITIES))
    express: bool = attrs.field(default=False, validator=s.flag)
    config: Mapping[str, Any] | str | None = attrs.field(default=None, repr=False)
    bundle: bool | None = attrs.field(default=None, validator=or_none(s.flag))
    memory_bytes: int = attrs.field(default=256 << 20, validator=s.at_least(1))
    wait_for_subscribers: int = attrs.field(default=1, validator=s.at_least(0))
    timeout_s: float = attrs.field(default=30.0, validator=s.seconds)
    settle_s: float = attrs.field(default=30.0, validator=s.seconds)
    _open: Publishing | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _unconfirmed: list[str] = attrs.field(factory=list, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Open a session.

        Raises:
            CannotConnectToStoreError: an endpoint cannot be reached; the message names it.
            ConfigError: an endpoint or `config` is invalid.
        """
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
        """Replace a session that panicked; `sync` reports the records that it had not confirmed."""
        _log.error("%s: the zenoh library panicked (%s); continuing with a new session", self._name(), error)
        self._unconfirmed += publishing.unconfirmed()
        self._open = None
        publishing.close()
        self._open = self._publishing()
        return self._open

    def write(self, records: Sequence[Record]) -> None:
        """Publish records; waits while a source is full. Raises StoreError with the records that were not published."""
        publishing = self._opened()
        failed: list[tuple[Record, BaseException]] = []
        index = 0
        while index < len(records):
            try:
                index += publishing.publish(records, index)
            except BaseException as error:  # a panic of the library is not an Exception
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
        """Return when every present penstock source has received all records published to it.

        Received, not stored: if the source's process dies, the records that it has not stored are lost. Subscribers
        that are not penstock sources are not asked. Raises StoreError, once for each loss, which names the source.
        """
        self._confirm(self._opened(), at_end=False)

    def close(self) -> None:
        """Announce the end to the sources, wait up to `timeout_s` seconds for their receipts, and close the session."""
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
                f"{self._name()} was opened in another process, before a fork: open one here", retryable=False
            )
        return self._open

    def _name(self) -> str:
        return f"zenoh store {self.key!r}"
