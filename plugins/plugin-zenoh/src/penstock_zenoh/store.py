"""ZenohStore: publishes records on zenoh keys, never faster than the sources there take them."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, get_args

import attrs
import msgspec
import zenoh

from penstock.codec import encode_bytes
from penstock.errors import CannotConnectToStoreError, ConfigError, StoreError, TemplateError
from penstock.record import Record
from penstock.templates import Template
from penstock_zenoh import settings as s
from penstock_zenoh import wire
from penstock_zenoh.audience import BEHIND, Audience, Listener
from penstock_zenoh.outside import MOST_KEY_BYTES, forget, has_panicked, is_library_error, keep_in_children
from penstock_zenoh.payloads import Form, encoding_of, payload_of
from penstock_zenoh.session import RENDEZVOUS, let_go, open_session

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
_OPENING = ("{{", "{%", "{#")


def _template(_: object, __: object, value: str) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"key={value!r}: must be a key or a template of one, as 'lab/camera/{{{{ channel }}}}'")
    try:
        Template(value)
    except TemplateError as error:
        raise ConfigError(f"key={value!r}: {error}") from error
    if len(value.encode(errors="replace")) > wire.MOST_CARD_KEY_BYTES:
        raise ConfigError(f"key={value[:40]!r}…: is longer than {wire.MOST_CARD_KEY_BYTES} bytes; shorten it")
    if not any(mark in value for mark in _OPENING):
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
    Beyond that time the source is given up: `sync` says what it had not confirmed, and the source counts what it
    misses if it ever comes back.

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
        wait_for_subscribers: How many sources must subscribe to a key before anything is published on it; 0 to
            publish into the void.
        timeout_s: Seconds to wait for a connection, for those sources, and for their receipts. A connection behind
            which nobody takes anything for so long (a frozen process; a foreign subscriber that blocks) is closed.
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
    wait_for_subscribers: int = attrs.field(default=1, validator=s.at_least(0))
    timeout_s: float = attrs.field(default=30.0, validator=s.seconds)
    _open: _Publishing | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _unconfirmed: list[str] = attrs.field(factory=list, init=False, repr=False, eq=False)

    def open(self) -> None:
        """Open a session. Raises CannotConnectToStoreError naming the endpoint; ConfigError for one that is none."""
        if self._open is not None:
            raise StoreError(f"{self._name()} is open already: close it first", retryable=False)
        self._unconfirmed.clear()
        self._open = self._publishing()

    def _publishing(self) -> _Publishing:
        return open_session(
            self,
            lambda session: _Publishing(session, self),
            name=self._name(),
            unreachable=CannotConnectToStoreError,
        )

    def _renew(self, publishing: _Publishing, error: BaseException) -> _Publishing:
        """Take a new session in the place of one that panicked; `sync` reports what it had not confirmed."""
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
        for index, record in enumerate(records):
            try:
                publishing.publish(record)
            except BaseException as error:  # a panic of the library is no Exception
                if not is_library_error(error):
                    raise
                failed.append((record, error))
                if isinstance(error, StoreError) and error.retryable:
                    failed.extend((rest, error) for rest in records[index + 1 :])
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

    def _confirm(self, publishing: _Publishing, *, at_end: bool) -> None:
        problems = self._unconfirmed + publishing.confirm(at_end=at_end)
        self._unconfirmed.clear()
        if problems:
            raise StoreError(f"{self._name()}: {'; '.join(problems)}", retryable=False)

    def _opened(self) -> _Publishing:
        if self._open is None:
            raise StoreError(f"{self._name()} is not open: call open() first", retryable=False)
        if not self._open.is_here():
            raise StoreError(
                f"{self._name()} was opened by another process, of which this is a fork: open one here", retryable=False
            )
        return self._open

    def _name(self) -> str:
        return f"zenoh store {self.key!r}"


class _Publishing:
    """An open session of a store: its publishers, its running numbers, its audience."""

    def __init__(self, session: zenoh.Session, store: ZenohStore) -> None:
        self._process = os.getpid()
        self._session = session
        self._store = store
        self._template = Template(store.key)
        self._variables = self._template.variables
        form = store.encoding
        self._encode = encode_bytes if form == "record" else lambda record: payload_of(record, form)
        self._keys: dict[str, str] = {}  # rendered keys by channel, where they depend on nothing else
        self._publishers: dict[str, zenoh.Publisher] = {}
        self._next: dict[str, int] = {}
        self._number = 0
        self._id = wire.new_id()
        self._sending = threading.Lock()  # marks of sync() and close() may come from another thread than write()
        announced = announced_key(store.key)
        self._audience = audience = Audience(announced, store.timeout_s)
        self._kept: deque[tuple[int, str, bytes, bytes]] = deque()  # (number, key, payload, attachment) until taken
        self._order = threading.Lock()
        liveliness = session.liveliness()
        self._held = (
            session.declare_subscriber(
                wire.receipt_key(self._id), zenoh.handlers.Callback(audience.on_receipt, indirect=False)
            ),
            liveliness.declare_subscriber(
                wire.SOURCES, zenoh.handlers.Callback(audience.on_token, indirect=False), history=True
            ),
            liveliness.declare_token(wire.publisher_key(self._id, wire.PublisherCard(announced, wire.this_process()))),
        )
        keep_in_children(self)

    def publish(self, record: Record) -> None:
        """Publish one record. Raises TemplateError, CodecError, or StoreError."""
        key = self._key(record)
        publisher = self._publishers.get(key) or self._publisher(key)
        payload = self._encode(record)
        number = self._number + 1
        while True:
            problem = self._audience.admit(
                key,
                number,
                len(payload),
                at_least=self._store.wait_for_subscribers,
                timeout_s=self._store.timeout_s,
            )
            if problem != BEHIND:
                break
            self._catch_up()
        if problem is not None:
            raise StoreError(problem)
        key_number = self._next.get(key, 0)
        attachment = wire.attachment(self._id, number, key_number)
        self._keep((number, key, payload, attachment))
        try:
            if self._audience.all_present or self._audience.is_heard(key):
                with self._order:
                    publisher.put(payload, attachment=attachment)
        except zenoh.ZError as error:
            raise StoreError(f"zenoh does not send to {key!r}: {error}") from error
        self._number = number
        self._next[key] = key_number + 1

    def _keep(self, sent: tuple[int, str, bytes, bytes]) -> None:
        """Keep a record until all sources have taken it; their room bounds how much that is."""
        kept = self._kept
        kept.append(sent)
        if len(kept) % 16 == 0 or kept[0][0] == sent[0]:
            self._forget()

    def _forget(self) -> None:
        needed = self._audience.needed_from()
        kept = self._kept
        while kept and (needed is None or kept[0][0] < needed):
            kept.popleft()

    def _catch_up(self) -> None:
        """Send again what sources that have come back had not received."""
        for listener in self._audience.behind():
            self._send_again(listener)

    def _send_again(self, listener: Listener) -> None:
        wanted = set(self._audience.unreceived(listener))
        _log.info("%s: sending %d records again", listener.describe(), len(wanted))
        with self._order:
            for number, key, payload, attachment in list(self._kept):
                if number in wanted:
                    with contextlib.suppress(zenoh.ZError):
                        self._publishers[key].put(payload, attachment=attachment)

    def _again(self, listener: Listener, *, repeat: bool) -> None:
        """Send again to a source that has come back, or that says that it lacks something."""
        if repeat or listener.is_behind:
            listener.is_behind = False
            self._send_again(listener)

    def confirm(self, *, at_end: bool) -> list[str]:
        """Ask for receipts; return what was lost."""
        totals = dict(self._next) if at_end else None
        return self._audience.confirm(
            self._send_mark, totals=totals, timeout_s=self._store.timeout_s, send_again=self._again
        )

    def is_here(self) -> bool:
        """Tell whether this process opened it; a fork has none of zenoh's threads."""
        return self._process == os.getpid()

    def unconfirmed(self) -> list[str]:
        """Return a sentence for each source that has not confirmed what was sent to it."""
        return self._audience.unconfirmed()

    def close(self) -> None:
        """Close the session."""
        self._audience.close()
        let_go(self._session, self._held)
        forget(self)

    def _send_mark(self, listener: Listener, mark: wire.Mark) -> None:
        with self._sending, contextlib.suppress(zenoh.ZError):  # repeated until there is a receipt
            self._session.put(
                wire.mark_key(self._id, listener.id),
                msgspec.msgpack.encode(mark),
                congestion_control=zenoh.CongestionControl.DROP,  # a put that blocks outlasts a broken link
                express=True,
            )

    def _key(self, record: Record) -> str:
        if not self._variables <= {"channel"}:
            return self._template.render(record)
        key = self._keys.get(record.channel)
        if key is None:
            key = self._template.render(record)
            wire.remember(self._keys, record.channel, key)
        return key

    def _publisher(self, key: str) -> zenoh.Publisher:
        problem = key_problem(key)
        if problem:
            shown = key if len(key) <= 100 else f"{key[:100]}…"
            raise StoreError(f"key {shown!r}: {problem}", retryable=False)
        publisher = self._session.declare_publisher(
            key,
            encoding=encoding_of(self._store.encoding),
            congestion_control=zenoh.CongestionControl.BLOCK,
            priority=getattr(zenoh.Priority, self._store.priority.upper()),
            express=self._store.express,
            reliability=zenoh.Reliability.RELIABLE,
        )
        if len(self._publishers) >= wire.KEYS_REMEMBERED:
            oldest = next(iter(self._publishers))
            gone: Any = self._publishers.pop(oldest)
            gone.undeclare()
            self._next.pop(oldest, None)
        self._publishers[key] = publisher
        return publisher


def announced_key(template: str) -> str:
    """Return a key expression that includes every key the template can give.

    >>> announced_key("lab/camera/{{ channel }}"), announced_key("lab/camera"), announced_key("{{ channel }}")
    ('lab/camera/**', 'lab/camera', '**')
    """
    starts = [template.index(mark) for mark in _OPENING if mark in template]
    if not starts:
        return template
    constant, slash, _ = template[: min(starts)].rpartition("/")
    return f"{constant}{slash}**"


def key_problem(key: str) -> str:
    """Return what is wrong with a key to publish on, or nothing."""
    try:
        size_bytes = len(key.encode())
        if size_bytes > MOST_KEY_BYTES:
            return f"has {size_bytes} bytes, and zenoh can send {MOST_KEY_BYTES}"
        zenoh.KeyExpr(key)
    except (zenoh.ZError, UnicodeEncodeError):
        return "is no zenoh key; it has chunks with '/' between them, none empty, without '#', '?' and '$'"
    if "*" in key:
        return "has a wildcard; a store publishes on plain keys"
    if key.startswith("@penstock/"):
        return "begins with '@penstock', which the plugin keeps for itself"
    return ""
