"""GivenUp: the records of which the sources have heard that they were given up."""

from __future__ import annotations

import threading

Name = tuple[str, int]


class GivenUp:
    """The names of given-up records, so that a source hears of each once, however many nodes give it up. Thread-safe.

    A record that two stores dead-letter is two dead letters, and one record that was not stored everywhere. Names are
    kept until two further checkpoints have begun: by then all nodes are done with the record.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[Name, int] = {}
        self._checkpoint = 0

    def is_first(self, name: Name, checkpoint: int) -> bool:
        """Note a record that a node gives up after the beginning of this checkpoint; return whether it is the first."""
        with self._lock:
            if checkpoint != self._checkpoint:
                self._checkpoint = checkpoint
                self._names = {each: noted for each, noted in self._names.items() if noted >= checkpoint - 1}
            is_first = name not in self._names
            self._names[name] = checkpoint
            return is_first
