"""The open session of a HERO source: its subscriber, and the HEROs that appear and disappear."""

from __future__ import annotations

import os

import zenoh

from penstock_zenoh.announcement import Announcement
from penstock_zenoh.arrivals import Arrival, Arrivals
from penstock_zenoh.hero.event import read_event_key
from penstock_zenoh.intake import MOST_IN_CHANNEL, Intake
from penstock_zenoh.library_errors import forget, keep_in_children
from penstock_zenoh.presence_log import PresenceLog
from penstock_zenoh.session import close_session


class Observation:
    """An open session, and its subscriber."""

    def __init__(
        self,
        session: zenoh.Session,
        key: str,
        capacity: int,
        capacity_bytes: int,
        *,
        is_peer: bool,
        health: str,
        presence: PresenceLog,
    ) -> None:
        self._process = os.getpid()
        self._session = session
        self._arrivals = Arrivals(capacity, capacity_bytes)
        subscriber = session.declare_subscriber(key, zenoh.handlers.FifoChannel(min(capacity, MOST_IN_CHANNEL)))

        def on_health(sample: zenoh.Sample) -> None:
            names = read_event_key(str(sample.key_expr))
            if names is not None:
                came = "appeared" if sample.kind == zenoh.SampleKind.PUT else "disappeared"
                presence.note(f"HERO {names[1]!r} of realm {names[0]!r} {came}")

        watcher = session.liveliness().declare_subscriber(
            health, zenoh.handlers.Callback(on_health, indirect=False), history=True
        )
        self._held = (subscriber, watcher, Announcement(session, is_peer=is_peer))
        self._intake = Intake(
            subscriber.handler, self._arrivals, name=f"penstock-zenoh {key}", when_due=lambda publisher: None
        )
        keep_in_children(self)

    def is_here(self) -> bool:
        """Return whether this process opened the session; a fork has none of its threads."""
        return self._process == os.getpid()

    def take(self, most: int, timeout_s: float) -> list[Arrival]:
        """Return up to `most` arrivals, waiting up to `timeout_s` seconds for the first."""
        return self._intake.take(most, timeout_s)

    def waiting(self) -> int:
        """Return how many events wait."""
        return self._arrivals.count

    def wake(self) -> None:
        """Wake a waiting reader."""
        with self._arrivals.changed:
            self._arrivals.has_news = True
            self._arrivals.changed.notify_all()

    def close(self) -> None:
        """Undeclare everything, end the thread, close the session."""
        self._arrivals.close()
        close_session(self._session, self._held)
        self._intake.join()
        forget(self)
