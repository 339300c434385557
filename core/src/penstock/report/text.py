"""A report as text for terminals, and as HTML for notebooks: tables of nodes and edges, and notes below them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.report.run_report import RunReport


def report_to_text(report: RunReport) -> str:
    """Return a report as lines of text."""
    lines = [f"run {report.name!r}: {_state(report)}, {report.duration_s:.2f} s"]
    lines += _table(node_rows(report))
    lines += _table(edge_rows(report))
    return "\n".join([*lines, *(f"  {note}" for note in notes(report))])


def report_to_html(report: RunReport) -> str:
    """Return a report as a fragment of HTML. All text is escaped."""
    colour = "#070" if report.ok else "#a00"
    state = f'<b style="color: {colour}">{_state(report)}</b>'
    return "\n".join(
        [
            "<div>",
            f"<p>run {escape(repr(report.name))}: {state}, {report.duration_s:.2f} s</p>",
            _html_table(node_rows(report)),
            _html_table(edge_rows(report)),
            "<ul>",
            *(f"<li>{escape(note)}</li>" for note in notes(report)),
            "</ul>",
            "</div>",
        ]
    )


def _state(report: RunReport) -> str:
    return "ok" if report.ok else "NOT OK"


def node_rows(report: RunReport) -> list[tuple[str, ...]]:
    """Return the table of nodes: a row of headings, and a row for each node."""
    rows: list[tuple[str, ...]] = [
        (
            "node",
            "records_in",
            "records_out",
            "stored",
            "discarded",
            "buffered",
            "dead_lettered",
            "lost",
            "rate /s",
            "work_p50 ms",
            "work_p99 ms",
            "latency_p50 ms",
            "latency_p99 ms",
        )
    ]
    for node in report.account.nodes:
        rows.append(
            (
                f"{node.node} ({node.role})",
                "" if node.role == "source" else str(node.records_in),
                "" if node.role == "store" else str(node.records_out),
                str(node.stored) if node.role == "store" else "",
                _few(node.discarded),
                _few(node.buffered),
                _few(node.dead_lettered),
                _few(node.lost + node.failed + node.skipped + node.lost_upstream),
                f"{node.rate:,.0f}",
                _ms(node.work_p50_s),
                _ms(node.work_p99_s),
                _ms(node.latency_p50_s if node.role == "store" else None),
                _ms(node.latency_p99_s if node.role == "store" else None),
            )
        )
    return rows


def edge_rows(report: RunReport) -> list[tuple[str, ...]]:
    """Return the table of edges: a row of headings, and a row for each edge."""
    rows: list[tuple[str, ...]] = [("edge", "put", "taken", "dropped", "lost", "in_flight", "when_full")]
    for edge in report.account.edges:
        counts = (str(edge.put), str(edge.taken), _few(edge.dropped), _few(edge.lost), _few(edge.in_flight))
        rows.append((edge.edge, *counts, edge.when_full))
    return rows


def notes(report: RunReport) -> list[str]:
    """Return the notes below the tables, a line each: drops, remarks, problems, and whether the counters add up."""
    lines: list[str] = []
    for edge in report.account.edges:
        for channel, ends in edge.channels.items():
            if count := ends.get("dropped", 0):
                said = f"{_records(count)} of channel {channel!r} dropped ({edge.when_full})"
                lines.append(f"{edge.edge}: {said}")
        if edge.recovered:
            lines.append(f"{edge.edge}: {_records(edge.recovered)} of an earlier run, read from the disk first")
        if edge.kept:
            lines.append(f"{edge.edge}: {_records(edge.kept)} left on the disk ({edge.when_full}) for the next run")
    for node in report.account.nodes:
        for channel, counts in node.channels.items():
            if left_out := counts.get("dropped_upstream"):
                lines.append(f"{node.node}: {_records(left_out)} of channel {channel!r} dropped by the source")
            if thinned := counts.get("thinned"):
                lines.append(f"{node.node}: {_records(thinned)} of channel {channel!r} thinned out, as configured")
    if report.dead_letters:
        lines.append(f"dead letters: {report.dead_letters} (send them through again: penstock replay)")
    lines += [f"remark: {remark}" for remark in report.remarks]
    lines += [f"problem: {problem}" for problem in report.problems]
    checkpoints = f"{report.checkpoints} checkpoint{'' if report.checkpoints == 1 else 's'}"
    lines.append(f"the counters {'add up' if report.balanced else 'DO NOT ADD UP'}; {checkpoints}")
    return lines


def _records(count: int) -> str:
    return f"{count} record{'' if count == 1 else 's'}"


def _few(count: int) -> str:
    return str(count) if count else "-"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.3g}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _html_table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = rows
    lines = ["<table>", f"<thead><tr>{_html_cells(head, 'th')}</tr></thead>", "<tbody>"]
    return "\n".join([*lines, *(f"<tr>{_html_cells(row, 'td')}</tr>" for row in body), "</tbody>", "</table>"])


def _html_cells(row: Sequence[str], tag: str) -> str:
    sides = ["left", *["right"] * (len(row) - 1)]
    return "".join(
        f'<{tag} style="padding: 2px 8px; text-align: {side}">{escape(cell)}</{tag}>'
        for side, cell in zip(sides, row, strict=True)
    )
