"""Events that a program feeds in addition to those of the network, and the request to end."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from penstock.errors import RunError

_MOST = 1024
Event = tuple[str, str, str, Any]


class Fed:
    """Hold events (HERO, event, realm, value) until they are read."""

    def __init__(self) -> None:
        self.waiting: deque[Event] = deque()
        self.has_ended = False
        self._changed = threading.Condition()

    def __reduce__(self) -> tuple[type[Fed], tuple[()]]:
        return Fed, ()  # a copy of a source in another process is fed in that process

    def begin(self) -> None:
        """Take events."""
        with self._changed:
            self.has_ended = False

    def put(self, event: Event) -> None:
        """Add an event; waits while the queue is full. Raises RunError after the end."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.waiting) < _MOST or self.has_ended)
            if self.has_ended:
                raise RunError("the archiver has been stopped and accepts no more events")
            self.waiting.append(event)

    def take(self, most: int) -> list[Event]:
        """Return up to `most` events, oldest first."""
        if not self.waiting:
            return []
        with self._changed:
            taken = [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]
            self._changed.notify_all()
            return taken

    def end(self) -> None:
        """Accept no more events."""
        with self._changed:
            self.has_ended = True
            self._changed.notify_all()
