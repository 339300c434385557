"""Programs that appeared and disappeared on a network while a source was open, for the log and the report."""

from __future__ import annotations

import logging
import threading

_MOST = 20
_log = logging.getLogger(__name__)


class PresenceLog:
    """Remember these events as sentences. Thread-safe."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: list[str] = []
        self._more = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[PresenceLog], tuple[str]]:
        return PresenceLog, (self._name,)  # a copy of a source in another process begins with an empty log

    def note(self, what: str) -> None:
        """Log and remember an event."""
        _log.info("%s: %s", self._name, what)
        with self._lock:
            if len(self._seen) < _MOST:
                self._seen.append(what)
            else:
                self._more += 1

    def notes(self) -> list[str]:
        """Return a sentence for each event; only the first ones if there are many."""
        with self._lock:
            return [*self._seen, *([f"and {self._more} more changes of presence"] if self._more else [])]
