"""Draining: ends runs at the end of a `with` block or of the program; another Ctrl-C drops the remaining records."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from penstock.errors import RunError
from penstock.report.account import Account
from penstock.report.run_report import RunReport
from penstock.run.signals import SigtermExit, SigtermLeaves
from penstock.source import SupportsEndSoon

ONE_PRESS_S: Final = 0.4
"""Seconds after a signal in which further ones count as the same: several parent processes may forward a terminal's
signal, and users may press the key twice."""
LOOK_EVERY_S: Final = 0.5
"""Longest single wait, in seconds, so that signals are handled on every platform."""

INTERRUPTIONS: Final = (KeyboardInterrupt, SigtermExit)


class EndingRun(Protocol):
    """The methods of a run that the code ending it needs."""

    name: str

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        ...

    def stop_soon(self) -> None:
        """Let the sources end; returns at once."""
        ...

    def abort(self) -> None:
        """End without draining; returns at once."""
        ...

    def wait(self, timeout_s: float | None = None) -> RunReport | None:
        """Wait until the run is over and return its report; None if it is not over in time."""
        ...

    def stats(self) -> Account:
        """Return the account of the run so far."""
        ...

    def sources(self) -> Mapping[str, Any]:
        """Return the sources at work, by the names of their nodes."""
        ...


class Block:
    """A `with` block around a run, which drains it at the end, in the process that started it."""

    def __init__(self, run: EndingRun) -> None:
        self._run = run
        self._process = os.getpid()
        self._sigterm = SigtermLeaves()

    def must_be_here(self) -> None:
        """Raise RunError in a forked process: it has none of the threads of the run."""
        if os.getpid() != self._process:
            raise RunError(
                f"run {self._run.name!r} belongs to process {self._process}, and cannot be used in a fork of it"
            )

    def enter(self) -> None:
        """Let SIGTERM leave the block, as Ctrl-C does."""
        self._sigterm.enter()

    def leave(self, error: BaseException | None) -> None:
        """Drain the run; `error` is the exception that left the block, if any. Raises an interruption that came."""
        if os.getpid() != self._process:
            return
        try:
            caught = drain([self._run], interrupted=error if isinstance(error, INTERRUPTIONS) else None)
        finally:
            self._sigterm.leave()
        if caught is not None and caught is not error:
            raise caught


def drain(
    runs: Sequence[EndingRun], *, interrupted: BaseException | None = None, limit_s: float | None = None
) -> BaseException | None:
    """End runs, and wait for them. An interruption is announced; the next one drops the records in flight.

    Args:
        runs: The runs to end; those that are already over are ignored.
        interrupted: The exception with which Ctrl-C or SIGTERM has already requested the end, if there is one.
        limit_s: Seconds after which the records in flight are dropped; None waits for ever.

    Returns:
        The first interruption, which the caller must raise; None if there was none.
    """
    began = heard_at = time.monotonic()
    begun = False
    while True:
        try:
            if not begun:  # inside the try: the next signal may come at once
                if interrupted is not None:
                    announce(runs)
                for run in runs:
                    run.stop_soon()
                begun = True
            for run in runs:
                while run.wait(_left(began, limit_s)) is None:
                    if limit_s is not None and time.monotonic() - began >= limit_s:
                        run.abort()
            return interrupted
        except (KeyboardInterrupt, SystemExit) as error:
            now = time.monotonic()
            if interrupted is None:
                interrupted, heard_at = error, now
                announce(runs)
            elif now - heard_at >= ONE_PRESS_S:
                for run in runs:
                    run.abort()


def _left(began: float, limit_s: float | None) -> float:
    if limit_s is None:
        return LOOK_EVERY_S
    return min(LOOK_EVERY_S, max(0.01, began + limit_s - time.monotonic()))


def announce(runs: Sequence[EndingRun]) -> None:
    """Print on the terminal that runs drain, and that another Ctrl-C drops the rest."""
    for run in runs:
        if not run.finished:
            tell(f"run {run.name!r}: draining {counted(under_way(run))}; Ctrl-C again drops them")


def under_way(run: EndingRun) -> int:
    """Return how many records wait on edges, in components, or in a source that can be emptied."""
    account = run.stats()
    holding = {name for name, source in run.sources().items() if isinstance(source, SupportsEndSoon)}
    return account.under_way + sum(node.lag or 0 for node in account.nodes if node.node in holding)


def counted(records: int) -> str:
    """Return a number of records as text: "1 record", "63 records"."""
    return f"{records} record{'' if records == 1 else 's'}"


def tell(text: str) -> None:
    """Print a line on stderr, if that is possible."""
    with contextlib.suppress(Exception):  # closed, full, or None in a program without a console
        print(f"penstock: {text}", file=sys.stderr, flush=True)
