"""Progress: the live counters of a run, in a few lines on stderr."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from penstock.report.account import Account, NodeAccount

if TYPE_CHECKING:
    from penstock.run.run import Run

EVERY_S = 0.25


class Progress:
    """Show the counts and rates of every node of a run; only the last state if stderr is not a terminal."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._before: Account | None = None
        self._stopped = threading.Event()
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._thread = threading.Thread(target=self._refresh, name="penstock progress", daemon=True)

    def __enter__(self) -> Progress:
        self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._live.update(self._table(), refresh=True)
        self._live.stop()
        if not self._console.is_terminal:
            self._console.print()  # later output begins on a new line

    def _refresh(self) -> None:
        while not self._stopped.wait(EVERY_S):
            self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        account = self._run.stats()
        table = Table(title=f"run {self._run.name!r}, {account.elapsed_s:.1f} s", title_justify="left", box=None)
        for heading in ("node", "records", "per s", "waiting", "dropped", "dead", "last error"):
            table.add_column(heading, justify="left" if heading in ("node", "last error") else "right")
        for node in account.nodes:
            into = [edge for edge in account.edges if edge.after == node.node]
            table.add_row(
                f"{node.node} ({node.role})",
                str(_count(node)),
                f"{self._rate(node, account):,.0f}",
                str(sum(edge.in_flight for edge in into)),
                str(sum(edge.dropped for edge in into)),
                str(node.dead_lettered),
                node.last_error[:60],
            )
        self._before = account
        return table

    def _rate(self, node: NodeAccount, account: Account) -> float:
        """Return the records per second since the last refresh; at the first, over the whole run."""
        before = next((old for old in self._before.nodes if old.node == node.node), None) if self._before else None
        if before is None or self._before is None or account.elapsed_s <= self._before.elapsed_s:
            return node.rate
        return (_count(node) - _count(before)) / (account.elapsed_s - self._before.elapsed_s)


def _count(node: NodeAccount) -> int:
    return node.received if node.role == "source" else node.records_in
