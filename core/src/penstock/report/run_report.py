"""RunReport: the result of a run, with an account that adds up, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import RunFailedError
from penstock.report.account import Account, NodeAccount
from penstock.report.remarks import doubts, notes, recoveries

MOST_NAMED: Final = 5
"""The most problems that an error names; its report has them all."""


@checks_arguments
@attrs.frozen(kw_only=True)
class RunReport:
    """The result of a run.

    Attributes:
        name: The name of the pipeline.
        account: The counters of every node and edge.
        errors: Errors that no single record caused, one sentence each.
        aborted: Whether it ended without draining.
        checkpoints: The number of completed checkpoints.
        dead_letters: The directory of the dead letters; "" if there are none.
        started_ns, duration_s: The start (UNIX ns) and the duration of the run.
    """

    name: str
    account: Account
    errors: Sequence[str] = ()
    aborted: bool = False
    checkpoints: int = 0
    dead_letters: str = ""
    started_ns: int = 0
    duration_s: float = 0.0

    @property
    def received(self) -> int:
        """Records that the sources returned."""
        return self.account.total("received")

    @property
    def emitted(self) -> int:
        """Records that decoders and processors emitted."""
        return sum(node.records_out for node in self.account.nodes if node.role != "source")

    @property
    def discarded(self) -> int:
        """Records for which processors and decoders emitted nothing."""
        return self.account.total("discarded")

    @property
    def thinned(self) -> int:
        """Records whose content decoders left out, as their settings say."""
        return self.account.total("thinned")

    @property
    def dropped(self) -> int:
        """Records that full edges dropped, by their policy."""
        return self.account.total("dropped")

    @property
    def dropped_upstream(self) -> int:
        """Records that the sources dropped, as configured."""
        return self.account.total("dropped_upstream")

    @property
    def dead_lettered(self) -> int:
        """Records that failed for good and are kept in the dead letters."""
        return self.account.total("dead_lettered")

    @property
    def skipped(self) -> int:
        """Records that failed for good under `on_error="skip"`."""
        return self.account.total("skipped")

    @property
    def stored(self) -> int:
        """Records written, summed over all stores."""
        return self.account.total("stored")

    @property
    def in_flight(self) -> int:
        """Records still on edges; 0 after a run that drained."""
        return self.account.total("in_flight")

    @property
    def lost(self) -> int:
        """Records lost in an abort, by `on_error="stop"`, or because even the dead letters failed."""
        return self.account.total("lost") + self.account.total("failed")

    @property
    def lost_upstream(self) -> int:
        """Records that the sources found missing on arrival."""
        return self.account.total("lost_upstream")

    @property
    def rejected(self) -> int:
        """Messages that a source received and that were not valid records."""
        return self.account.total("rejected")

    @property
    def imbalances(self) -> list[str]:
        """The counters that do not add up, one sentence each."""
        return self.account.imbalances()

    @property
    def balanced(self) -> bool:
        """Whether all counters add up."""
        return not self.imbalances

    @property
    def problems(self) -> list[str]:
        """The reasons why the run is not ok, one sentence each; empty if it is ok."""
        counts = {
            "lost": self.lost,
            "lost upstream": self.lost_upstream,
            "rejected by a source as invalid": self.rejected,
        }
        found = [f"{_records(count)} {word}" for word, count in counts.items() if count]
        for node in self.account.nodes:
            for word, count in (("dead-lettered", node.dead_lettered), ("skipped after an error", node.skipped)):
                if count:
                    found.append(f"{_where(node)}: {_records(count)} {word}{_errors(node)}")
        return [*(["the run was aborted"] if self.aborted else []), *found, *self.errors, *self.imbalances]

    @property
    def doubts(self) -> list[str]:
        """Results that are probably not intended, though nothing failed; they are logged as warnings at the end."""
        return doubts(self.account, _where)

    @property
    def notes(self) -> list[str]:
        """Facts that sources and decoders report; they are logged as information at the end."""
        return notes(self.account, _where)

    @property
    def remarks(self) -> list[str]:
        """Notable facts that are not failures: doubts, notes, reopened sources, retried calls, restarted processes."""
        return [*self.doubts, *self.notes, *recoveries(self.account, _where)]

    @property
    def ok(self) -> bool:
        """Whether all records were treated as the pipeline defines, and nothing failed."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0 if ok, else 1."""
        return 0 if self.ok else 1

    def raise_if_failed(self) -> None:
        """Raise RunFailedError, which carries this report, unless the run is ok."""
        if problems := self.problems:
            more = f"; and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
            raise RunFailedError(f"run {self.name!r}: {'; '.join(problems[:MOST_NAMED])}{more}", report=self)

    def to_plain(self) -> dict[str, Any]:
        """Return the report as plain data."""
        totals = (
            *("received", "emitted", "discarded", "thinned", "dropped", "dead_lettered", "skipped", "stored"),
            "in_flight",
        )
        return {
            "name": self.name,
            "ok": self.ok,
            "balanced": self.balanced,
            "exit_code": self.exit_code,
            **{
                field: getattr(self, field)
                for field in (*totals, "lost", "lost_upstream", "dropped_upstream", "rejected")
            },
            "problems": self.problems,
            "remarks": self.remarks,
            "aborted": self.aborted,
            "checkpoints": self.checkpoints,
            "dead_letters": self.dead_letters,
            "started_ns": self.started_ns,
            "duration_s": self.duration_s,
            "nodes": [{**attrs.asdict(node), "records_out": node.records_out} for node in self.account.nodes],
            "edges": [attrs.asdict(edge) for edge in self.account.edges],
        }

    def to_json(self) -> str:
        """Return the report as JSON."""
        import json

        return json.dumps(self.to_plain(), indent=2)

    def __repr__(self) -> str:
        counts = f"{self.received} received, {self.stored} stored"
        return f"RunReport({self.name!r}: {'ok' if self.ok else 'NOT OK'}, {counts}, {self.duration_s:.2f} s)"

    def __str__(self) -> str:
        from penstock.report.text import report_to_text

        return report_to_text(self)

    def _repr_html_(self) -> str:
        from penstock.report.text import report_to_html

        return report_to_html(self)


def _where(node: NodeAccount) -> str:
    return f"node {node.node!r} ({node.component})"


def _records(count: int) -> str:
    return "1 record was" if count == 1 else f"{count} records were"


def _errors(node: NodeAccount) -> str:
    """Return the first error, and the last one if it is different."""
    first, last = " ".join(node.first_error.split()), " ".join(node.last_error.split())
    return (f"; first error: {first}" if first not in ("", last) else "") + (f"; last error: {last}" if last else "")
