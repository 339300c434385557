"""Telling: what is not ok at the end of a run, said by logging, one line for each node."""

from __future__ import annotations

import logging
from typing import Final

from penstock.report.run_report import RunReport

_log = logging.getLogger("penstock.report")  # without a handler of ours: unconfigured, Python prints warnings on stderr

MOST_LINES: Final = 20
"""Lines that one run logs at most; the report has them all."""


def tell_problems(report: RunReport) -> None:
    """Log what is not ok, and what is probably not meant, as warnings; nothing if there is neither."""
    problems, doubts = report.problems, report.doubts
    if problems:
        what = f"{report.received} received, {report.stored} stored"
        _log.warning("run %r: NOT OK: %s%s", report.name, what, _where(report))
    lines = [*problems, *doubts]
    for line in lines[:MOST_LINES]:
        _log.warning("run %r: %s", report.name, _printable(line))
    if len(lines) > MOST_LINES:
        _log.warning("run %r: … and %d more: print its report", report.name, len(lines) - MOST_LINES)


def _where(report: RunReport) -> str:
    return f"; dead letters: {report.dead_letters}" if report.dead_letters else ""


def _printable(text: str) -> str:
    """Return text in one line that cannot steer a terminal: an error may quote what came from a network."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
