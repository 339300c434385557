"""Readers of an environment, in any process: dead ones are cleared, those that hold old pages are reported."""

from __future__ import annotations

import logging

import attrs
import lmdb

_log = logging.getLogger(__name__)
_COMMITS = 256
_FAR_BEHIND = 1000
FAR_WHEN_IT_GROWS = 100
"""Transactions that a reader may be behind when the map has to grow, which few large ones make happen, too."""


@attrs.define
class ReaderWatch:
    """Check from time to time for readers whose transaction is so old that the file can only grow.

    LMDB reuses the pages of deleted or replaced records only when no reader can see them any more.
    """

    where: str
    _commits: int = 0
    _reported: set[tuple[str, str]] = attrs.field(factory=set)

    def committed(self, env: lmdb.Environment) -> None:
        """Count a commit, and check at every 256th."""
        self._commits += 1
        if self._commits % _COMMITS == 0:
            self.look(env)

    def look(self, env: lmdb.Environment, *, far: int = _FAR_BEHIND) -> None:
        """Clear readers that were killed, and log a warning, once each, about those that are so far behind."""
        env.reader_check()
        last = int(env.info()["last_txnid"])
        for process, transaction in _readers(env):
            if last - int(transaction) > far and (process, transaction) not in self._reported:
                self._reported.add((process, transaction))
                _log.warning(
                    "%s: process %s has been reading since transaction %s, %d transactions ago: the file grows as "
                    "long as it does; end its reading() block, or the process",
                    self.where, process, transaction, last - int(transaction),
                )  # fmt: skip


def _readers(env: lmdb.Environment) -> list[tuple[str, str]]:
    """Return the processes that are reading, each with its transaction."""
    rows = [line.split() for line in env.readers().splitlines()[1:]]
    return [(row[0], row[2]) for row in rows if len(row) == 3 and row[2].isdigit()]
