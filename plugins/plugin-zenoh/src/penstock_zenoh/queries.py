"""Control of a run by zenoh queries: the actions of `ps.control`, with replies."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import zenoh

import penstock as ps
from penstock.arguments import checks_arguments
from penstock.compose.node import Flow
from penstock.errors import SourceError, StoreError
from penstock.record import Record
from penstock.run.control import GIVEN
from penstock.validators import one_of
from penstock_zenoh import settings as s
from penstock_zenoh.announcement import Announcement
from penstock_zenoh.library_errors import forget, is_library_error, keep_in_children
from penstock_zenoh.session import RENDEZVOUS, close_session, is_plain_peer, open_session

_MOST_PENDING = 1000


def control(
    key: str,
    *,
    actions: Mapping[str, Any] | None = None,
    given: Iterable[str] = GIVEN,
    allow: Iterable[Any] = (),
    **network: Any,
) -> Flow:
    """Make a control channel of the zenoh queries on a key; each query is answered with JSON.

    The payload of a query is JSON: `{"action": "pause", "argument": "camera"}`; a query without payload asks for
    `stats`. The reply is `{"action": …, "ok": true, "result": …}`, or has `"error"`. Add the returned flow to the
    pipeline.

    Args:
        key: The key that is queried, by `session.get(key, payload=…)`.
        actions: As of `ps.control`.
        given: As of `ps.control`.
        allow: As of `ps.control`.
        network: `listen`, `connect`, `rendezvous`, `config`, `mode` and `timeout_s`, as of the `zenoh` source.
    """
    source = QuerySource(key=key, **network)
    flow = ps.control(source, actions=actions, given=given, allow=allow, name=f"control {key}")
    return flow >> ps.store(Replies(source), name=f"replies {key}")


@checks_arguments
@attrs.define(kw_only=True, eq=False)
class QuerySource:
    """Receive each query on a key as a record whose data is the query's payload (bytes).

    Attributes:
        key: The key that is queried.
        listen: As of the `zenoh` source.
        connect: As of the `zenoh` source.
        rendezvous: As of the `zenoh` source.
        config: As of the `zenoh` source.
        mode: As of the `zenoh` source.
        timeout_s: As of the `zenoh` source.
    """

    gives: ClassVar[str] = "bytes"
    stays_valid: ClassVar[bool] = True

    key: str = attrs.field(validator=s.text)
    listen: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints, validator=s.are_endpoints)
    connect: Sequence[str] | None = attrs.field(default=None, converter=s.endpoints, validator=s.are_endpoints)
    rendezvous: str = attrs.field(default=RENDEZVOUS, validator=s.text)
    config: Mapping[str, Any] | str | None = attrs.field(default=None, repr=False)
    mode: str = attrs.field(default="peer", validator=one_of(*s.MODES))
    timeout_s: float = attrs.field(default=30.0, validator=s.seconds)
    _waiting: queue.SimpleQueue[int] = attrs.field(factory=queue.SimpleQueue, init=False, repr=False)
    _pending: dict[int, zenoh.Query] = attrs.field(factory=dict, init=False, repr=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)
    _number: int = attrs.field(default=0, init=False, repr=False)
    _session: zenoh.Session | None = attrs.field(default=None, init=False, repr=False)
    _held: tuple[Any, ...] = attrs.field(default=(), init=False, repr=False)
    _process: int = attrs.field(default=0, init=False, repr=False)

    def open(self) -> None:
        """Declare the queryable. Raises SourceError, which names an endpoint that cannot be reached."""
        if self._session is not None:
            raise SourceError(f"queries on {self.key!r}: is open already: close it first")
        self._session, self._held = open_session(
            self, self._declare, name=f"queries on {self.key!r}", unreachable=SourceError
        )
        self._process = os.getpid()
        keep_in_children(self)

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the queries that have arrived."""
        if self._session is None:
            raise SourceError(f"queries on {self.key!r}: is not open: call open() first")
        records: list[Record] = []
        while len(records) < max_records:
            try:
                number = self._waiting.get_nowait() if records else self._waiting.get(timeout=max(timeout_s, 0.001))
            except queue.Empty:
                break
            with self._lock:
                query = self._pending.get(number)
            if query is not None:
                payload = b'{"action": "stats"}' if query.payload is None else query.payload.to_bytes()
                records.append(Record(payload, channel=self.key, seq=number, time_ns=time.time_ns()))
        return records

    def answer(self, number: int, payload: bytes) -> None:
        """Reply to a query and finish it. May be called from any thread; an already answered query is ignored."""
        with self._lock:
            query = self._pending.pop(number, None)
        if query is None:
            return
        query.reply(
            self.key if "*" in str(query.key_expr) else str(query.key_expr),
            payload,
            encoding=zenoh.Encoding.APPLICATION_JSON,
        )
        query.drop()  # type: ignore[no-untyped-call]  # zenoh's stub

    def close(self) -> None:
        """Refuse all unanswered queries, and close the session."""
        session, self._session = self._session, None
        if session is None or self._process != os.getpid():
            return
        with self._lock:
            pending, self._pending = list(self._pending.values()), {}
        for query in pending:
            _refuse(query, b"the run has ended")
        close_session(session, self._held)
        forget(self)

    def _declare(self, session: zenoh.Session) -> tuple[zenoh.Session, tuple[Any, ...]]:
        answer = zenoh.handlers.Callback(self._on_query, indirect=False)
        announcement = Announcement(session, is_peer=is_plain_peer(self))
        return session, (session.declare_queryable(self.key, answer), announcement)

    def _on_query(self, query: zenoh.Query) -> None:
        with self._lock:
            if len(self._pending) < _MOST_PENDING:
                self._number += 1
                self._pending[self._number] = query
                self._waiting.put(self._number)
                return
        _refuse(query, b"too many queries wait: ask again later")


class Replies:
    """Answer the queries of a source with the answers of a control channel."""

    takes: ClassVar[str] = "mapping"

    def __init__(self, source: QuerySource) -> None:
        self._source = source

    def open(self) -> None:
        """Do nothing: the session is the source's."""

    def write(self, records: Sequence[Record]) -> None:
        """Send each answer as the reply to its query."""
        failed: list[tuple[Record, BaseException]] = []
        for record in records:
            try:
                self._source.answer(record.seq, json.dumps(record.data, default=_plain).encode())
            except BaseException as error:  # a panic of the library is not an Exception
                if not is_library_error(error):
                    raise
                failed.append((record, error))
        if failed:
            raise StoreError(f"a reply was not sent: {failed[0][1]}", failed=failed, retryable=False)

    def sync(self) -> None:
        """Do nothing: a reply is sent at once."""

    def close(self) -> None:
        """Do nothing."""


def _plain(value: Any) -> Any:
    return attrs.asdict(value) if attrs.has(type(value)) else str(value)


def _refuse(query: zenoh.Query, why: bytes) -> None:
    try:
        query.reply_err(why)
        query.drop()  # type: ignore[no-untyped-call]  # zenoh's stub
    except zenoh.ZError:  # the querying session has closed
        return
