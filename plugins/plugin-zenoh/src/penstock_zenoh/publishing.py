"""The session of an open store: its publishers, running numbers, audience and kept messages."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import zenoh

from penstock.codec import encode_bytes
from penstock.errors import StoreError
from penstock.record import Record
from penstock.templates import Template
from penstock_zenoh import wire
from penstock_zenoh.announcement import Announcement, Neighbours
from penstock_zenoh.audience import BEHIND, FULL, Audience
from penstock_zenoh.keys import announced_key, key_problem
from penstock_zenoh.library_errors import forget, keep_in_children
from penstock_zenoh.listener import Listener
from penstock_zenoh.packing import MOST_BYTES, MOST_RECORDS, head_of, is_large, is_small, pack_list
from penstock_zenoh.payloads import Form, encoding_of, payload_of
from penstock_zenoh.session import close_session

_log = logging.getLogger(__name__)


class Settings(NamedTuple):
    """The settings of a store for its session; see `ZenohStore`."""

    key: str
    encoding: Form
    priority: str
    express: bool
    bundle: bool | None
    wait_for_subscribers: int
    memory_bytes: int
    timeout_s: float
    settle_s: float
    is_peer: bool


class _Kept(NamedTuple):
    """A message that may have to be sent again: its first and last number, key, form and size.

    The payload is the record's own bytes, which cannot change: zenoh copies them for each `put` into memory that it
    frees afterwards, and that the next one finds in the cache.
    """

    first: int
    last: int
    key: str
    payload: bytes
    attachment: bytes
    size_bytes: int


class Publishing:
    """An open session of a store. One thread publishes; `confirm` and `close` may be called from another."""

    def __init__(self, session: zenoh.Session, settings: Settings) -> None:
        self._process = os.getpid()
        self._session = session
        self._settings = settings
        self._template = Template(settings.key)
        self._is_by_channel = self._template.variables <= {"channel"}
        self._keys: dict[str, str] = {}  # rendered keys by channel, if the template depends on nothing else
        self._publishers: dict[str, zenoh.Publisher] = {}
        self._next: dict[str, int] = {}
        self._number = 0
        self._id = wire.new_id()
        self._sending = threading.Lock()  # marks of sync() and close() may come from another thread than write()
        announced = announced_key(settings.key)
        self._audience = audience = Audience(announced, settings.timeout_s, settings.settle_s)
        self._neighbours = neighbours = Neighbours(session)
        self._kept: deque[_Kept] = deque()  # until all sources have taken it
        self._kept_bytes = 0
        self._order = threading.Lock()
        liveliness = session.liveliness()
        self._held = (
            session.declare_subscriber(
                wire.receipt_key(self._id), zenoh.handlers.Callback(audience.on_receipt, indirect=False)
            ),
            liveliness.declare_subscriber(
                wire.SESSIONS, zenoh.handlers.Callback(neighbours.on_token, indirect=False), history=True
            ),
            liveliness.declare_subscriber(
                wire.SOURCES, zenoh.handlers.Callback(audience.on_token, indirect=False), history=True
            ),
            Announcement(session, is_peer=settings.is_peer),
            liveliness.declare_token(wire.publisher_key(self._id, wire.PublisherCard(announced, wire.this_process()))),
        )
        keep_in_children(self)

    def publish(self, records: Sequence[Record], at: int) -> int:
        """Publish the record at index `at`, with those after it that fit into the same message.

        Returns the number of published records. Raises TemplateError, CodecError or StoreError for that record; then
        nothing was published.
        """
        record = records[at]
        key = self._key(record)
        if self._packs(key):
            if is_small(record):
                count = self._publish_list(key, records, at)
                if count:
                    return count
            elif is_large(record):
                self._send(key, record.data, 1, len(record.data), head_of(record))
                return 1
        form = self._settings.encoding
        payload = encode_bytes(record) if form == "record" else payload_of(record, form)
        self._send(key, payload, 1, len(payload), None)
        return 1

    def _packs(self, key: str) -> bool:
        """Return whether every receiver of this key can read packed messages."""
        bundle = self._settings.bundle
        if bundle is None:
            bundle = self._settings.is_peer and key[:1] != "@" and "/@" not in key and self._neighbours.are_ours()
        return bundle and self._settings.encoding == "record"

    def _publish_list(self, key: str, records: Sequence[Record], at: int) -> int:
        """Publish a list of small records of one key; return how many, 0 for a single or unpackable one."""
        following = records[at + 1 : at + 2]
        if not following or not is_small(following[0]) or self._key_or_none(following[0]) != key:
            return 0
        most = min(MOST_RECORDS, self._audience.room(key))
        run: list[Record] = []
        size = 0
        channel = records[at].channel
        for record in records[at : at + most]:
            same = record.channel == channel if self._is_by_channel else self._key_or_none(record) == key
            if not same or not is_small(record) or size >= MOST_BYTES:
                break
            run.append(record)
            size += len(record.data)
        if len(run) < 2:
            return 0
        try:
            payload = pack_list(run)
        except Exception:  # a record cannot be packed: the first one is published alone, so that an error is its own
            return 0
        self._send(key, payload, len(run), size, b"")
        return len(run)

    def _send(self, key: str, data: bytes, count: int, size_bytes: int, head: bytes | None) -> None:
        """Wait for capacity, keep a message, and put it; without a head, other programs can read it as well."""
        publisher = self._publishers.get(key) or self._publisher(key)
        number, key_number = self._number + 1, self._next.get(key, 0)
        self._admit(key, number, key_number, count, size_bytes)
        if head is None:
            attachment = wire.attachment(self._id, number, key_number)
        else:
            attachment = wire.packed_attachment(self._id, number, key_number, count=count, head=head)
        self._kept.append(_Kept(number, number + count - 1, key, data, attachment, size_bytes))
        self._kept_bytes += size_bytes
        if len(self._kept) % 16 == 0 or len(self._kept) == 1:
            self._forget()
        try:
            if self._audience.all_present or self._audience.is_heard(key):
                with self._order:
                    publisher.put(data, attachment=attachment)
        except zenoh.ZError as error:
            raise StoreError(f"zenoh does not send to {key!r}: {error}") from error
        self._number = number + count - 1
        self._next[key] = key_number + count

    def _admit(self, key: str, number: int, key_number: int, count: int, size_bytes: int) -> None:
        """Wait until a message fits, here and at the sources. Raises StoreError."""
        problem: str | None
        while True:
            if self._kept and self._kept_bytes + size_bytes > self._settings.memory_bytes:
                self._forget()
            if self._kept and self._kept_bytes + size_bytes > self._settings.memory_bytes:
                problem = self._audience.wait_taken(self._kept[0].last)
                if problem is None:
                    continue
            else:
                problem = self._audience.admit(
                    key,
                    number,
                    size_bytes,
                    at_least=self._settings.wait_for_subscribers,
                    timeout_s=self._settings.timeout_s,
                    key_number=key_number,
                    count=count,
                )
            if problem is None:
                return
            if problem == FULL:
                self._ask_again()
            elif problem == BEHIND:
                self._catch_up()
            else:
                raise StoreError(problem)

    def _ask_again(self) -> None:
        """Ask sources that take nothing for receipts; repeat the messages that one lacks though it answers.

        Its answer to a mark that followed the messages shows that a broken link swallowed them: zenoh may lose what is
        put into a session that is being replaced.
        """
        for listener in self._audience.full():
            is_answered = listener.asked <= listener.receipt.mark
            self._again(listener, repeat=is_answered and listener.asked > 0)
            if is_answered:
                listener.asked = self._audience.next_mark()
            self._send_mark(listener, listener.mark(listener.asked, is_end=False, is_final=False))

    def _forget(self) -> None:
        needed = self._audience.needed_from()
        kept = self._kept
        while kept and (needed is None or kept[0].last < needed):
            self._kept_bytes -= kept.popleft().size_bytes

    def _catch_up(self) -> None:
        """Repeat the messages that reconnected sources have not received."""
        for listener in self._audience.behind():
            self._send_again(listener)

    def _send_again(self, listener: Listener) -> None:
        if listener.owed is not None:  # it counts the records it missed before, and takes no gap for a loss until then
            self._send_mark(listener, listener.mark(self._audience.next_mark(), is_end=False, is_final=False))
        wanted = set(self._audience.unreceived(listener))
        if not wanted:
            self._send_mark(listener, wire.Mark(0, listener.last))
            return
        _log.info("%s: sending %d messages again", listener.describe(), len(wanted))
        with self._order:
            for kept in list(self._kept):
                if kept.last in wanted:
                    with contextlib.suppress(zenoh.ZError):
                        attachment = wire.repetition(listener.id, kept.attachment)
                        self._publishers[kept.key].put(kept.payload, attachment=attachment)

    def _again(self, listener: Listener, *, repeat: bool) -> None:
        """Repeat messages to a source that has reconnected, or that misses some and receives no more."""
        if listener.is_behind or (repeat and listener.is_stuck()):
            listener.is_behind = False
            self._send_again(listener)

    def confirm(self, *, at_end: bool) -> list[str]:
        """Ask for receipts; return a sentence for each loss."""
        return self._audience.confirm(
            self._send_mark, at_end=at_end, timeout_s=self._settings.timeout_s, send_again=self._again
        )

    def is_here(self) -> bool:
        """Return whether this process opened the session; a fork has none of zenoh's threads."""
        return self._process == os.getpid()

    def unconfirmed(self) -> list[str]:
        """Return a sentence for each source that has not confirmed all records sent to it."""
        return self._audience.unconfirmed()

    def close(self) -> None:
        """Close the session."""
        self._audience.close()
        close_session(self._session, self._held)
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
        if not self._is_by_channel:
            return self._template.render(record)
        key = self._keys.get(record.channel)
        if key is None:
            key = self._template.render(record)
            wire.remember(self._keys, record.channel, key)
        return key

    def _key_or_none(self, record: Record) -> str | None:
        """Return the key of a record; None if the template fails, which is reported when the record is published."""
        try:
            return self._key(record)
        except Exception:  # raised by the template: see above
            return None

    def _publisher(self, key: str) -> zenoh.Publisher:
        problem = key_problem(key)
        if problem:
            shown = key if len(key) <= 100 else f"{key[:100]}…"
            raise StoreError(f"key {shown!r}: {problem}", retryable=False)
        publisher = self._session.declare_publisher(
            key,
            encoding=encoding_of(self._settings.encoding),
            congestion_control=zenoh.CongestionControl.BLOCK,
            priority=getattr(zenoh.Priority, self._settings.priority.upper()),
            express=self._settings.express,
            reliability=zenoh.Reliability.RELIABLE,
        )
        if len(self._publishers) >= wire.KEYS_REMEMBERED:
            oldest = next(iter(self._publishers))
            gone: Any = self._publishers.pop(oldest)
            gone.undeclare()
            self._next.pop(oldest, None)
        self._publishers[key] = publisher
        return publisher
