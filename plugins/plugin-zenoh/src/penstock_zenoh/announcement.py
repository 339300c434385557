"""Announcements of this plugin's sessions, with which a publisher distinguishes them from foreign receivers."""

from __future__ import annotations

import contextlib
import threading

import zenoh

from penstock_zenoh import wire


class Announcement:
    """The liveliness token of a session that relays to no other session.

    A client receives through the session that it is connected to and is invisible to all others: while a client is
    connected, the token is withdrawn. Sessions that are not peers, or that relay for others, have no token.
    """

    def __init__(self, session: zenoh.Session, *, is_peer: bool) -> None:
        self._session = session
        self._token: zenoh.LivelinessToken | None = None
        self._clients: set[str] = set()
        self._lock = threading.Lock()
        self._is_over = not is_peer
        self._show()
        self._listener = session.info.declare_transport_events_listener(
            zenoh.handlers.Callback(self._on_transport, indirect=False), history=True
        )

    def undeclare(self) -> None:
        """Withdraw the token permanently."""
        with contextlib.suppress(zenoh.ZError):
            self._listener.undeclare()  # type: ignore[no-untyped-call]  # zenoh's stub
        with self._lock:
            self._is_over = True
        self._show()

    def _on_transport(self, event: zenoh.TransportEvent) -> None:
        if event.transport.whatami != zenoh.WhatAmI.CLIENT:
            return
        with self._lock:
            zid = str(event.transport.zid)
            if event.kind == zenoh.SampleKind.PUT:
                self._clients.add(zid)
            else:
                self._clients.discard(zid)
        self._show()

    def _show(self) -> None:
        with self._lock, contextlib.suppress(zenoh.ZError):
            token, wanted = self._token, not self._is_over and not self._clients
            if token is not None and not wanted:
                self._token = None
                token.undeclare()  # type: ignore[no-untyped-call]  # zenoh's stub
            elif token is None and wanted:
                key = wire.session_key(str(self._session.info.zid()))
                self._token = self._session.liveliness().declare_token(key)


class Neighbours:
    """The connections of a session, compared with the announced sessions of this plugin."""

    def __init__(self, session: zenoh.Session) -> None:
        self._session = session
        self._announced: set[str] = set()
        self._seen: list[zenoh.Transport] | None = None
        self._are_ours = False

    def on_token(self, sample: zenoh.Sample) -> None:
        """Record that a session was announced or withdrawn."""
        zid = str(sample.key_expr).rpartition("/")[2]
        if sample.kind == zenoh.SampleKind.PUT:
            self._announced.add(zid)
        else:
            self._announced.discard(zid)
        self._seen = None

    def are_ours(self) -> bool:
        """Return whether all connected sessions are announced ones of this plugin; called before each message."""
        transports = self._session.info.transports()
        if transports != self._seen:
            self._seen = transports
            self._are_ours = all(
                each.whatami == zenoh.WhatAmI.PEER and str(each.zid) in self._announced for each in transports
            )
        return self._are_ours
