"""Logs the problems of a run at its end, and the notes of its components."""

from __future__ import annotations

import logging
from typing import Final

from penstock.report.run_report import RunReport

_log = logging.getLogger("penstock.report")  # no NullHandler: if nothing is configured, Python prints warnings

MOST_LINES: Final = 20
"""The most lines that one run logs; the report has them all."""


def tell_problems(report: RunReport) -> None:
    """Log problems, and results that are probably not intended, as warnings; log the notes of components at INFO."""
    problems, doubts = report.problems, report.doubts
    if problems:
        what = f"{report.received} received, {report.stored} stored"
        _log.warning("run %r: NOT OK: %s%s", report.name, what, _where(report))
    for line in _lines([*problems, *doubts]):
        _log.warning("run %r: %s", report.name, line)
    for line in _lines(report.notes):
        _log.info("run %r: %s", report.name, line)


def _lines(sentences: list[str]) -> list[str]:
    """Return the sentences to log, at most as many as allowed."""
    lines = [_printable(sentence) for sentence in sentences[:MOST_LINES]]
    more = len(sentences) - MOST_LINES
    return lines if more <= 0 else [*lines, f"… and {more} more: print its report"]


def _where(report: RunReport) -> str:
    return f"; dead letters: {report.dead_letters}" if report.dead_letters else ""


def _printable(text: str) -> str:
    """Return text in one line without control characters: an error may quote data from the network."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
