"""Merge: detect records of the same name that reach one lane from several nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.record import Record
from penstock.run.steps.seq_runs import SeqRuns


class Merge:
    """Compare the names of the records on the edges of one lane. Used by its thread.

    A record that a source returns again, marked with `discontinuity`, is not a second one.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._runs: dict[str, dict[str, SeqRuns]] = {}
        self._is_reported = False

    def note(self, edge: str, records: Sequence[Record]) -> None:
        """Check a list that arrived on this edge; the first number that occurs twice in any channel is reported."""
        if self._is_reported:
            return
        channel = records[0].channel
        seqs = [record.seq for record in records]
        first, last = seqs[0], seqs[-1]
        is_run = last - first == len(seqs) - 1 and all(record.channel == channel for record in records)
        if is_run and not records[0].discontinuity and seqs == list(range(first, last + 1)):  # nearly always
            self._cover(edge, channel, first, last + 1)
            return
        for record in records:
            if record.discontinuity:
                self._runs.get(record.channel, {}).pop(edge, None)
            self._cover(edge, record.channel, record.seq, record.seq + 1)

    def _cover(self, edge: str, channel: str, first: int, end: int) -> None:
        runs = self._runs.setdefault(channel, {})
        if edge not in runs:
            runs[edge] = SeqRuns()
        runs[edge].cover(first, end)
        if len(runs) == 1 or self._is_reported:
            return
        for other, theirs in runs.items():
            common = None if other == edge else theirs.first_common(first, end)
            if common is not None:
                self._is_reported = True
                one, two = (name.partition(" >> ")[0] for name in (other, edge))
                self._report(
                    f"{one!r} and {two!r} both sent it a record of channel {channel!r} with seq {common}, and these "
                    "cannot be told apart: use a different channel for each"
                )
                return
