"""The programs that came and went on a network while a source was open, for the log and the report."""

from __future__ import annotations

import logging
import threading

_MOST = 20
_log = logging.getLogger(__name__)


class Comings:
    """Remember what was seen, in words. Any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: list[str] = []
        self._more = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Comings], tuple[str]]:
        return Comings, (self._name,)  # a copy of a source in another process sees for itself

    def note(self, what: str) -> None:
        """Log what happened, and remember it."""
        _log.info("%s: %s", self._name, what)
        with self._lock:
            if len(self._seen) < _MOST:
                self._seen.append(what)
            else:
                self._more += 1

    def notes(self) -> list[str]:
        """Return a sentence for each, the first ones if there are many."""
        with self._lock:
            return [*self._seen, *([f"and {self._more} comings and goings more"] if self._more else [])]
