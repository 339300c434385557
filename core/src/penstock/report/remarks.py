"""Remarks: notable facts about a run in which nothing failed."""

from __future__ import annotations

from collections.abc import Callable

from penstock.report.account import Account, NodeAccount


def doubts(account: Account, where: Callable[[NodeAccount], str]) -> list[str]:
    """Return probable mistakes: the warnings of the nodes, and a node that emitted nothing."""
    leads_on = {edge.before for edge in account.edges}
    found = []
    for node in account.nodes:
        found += [f"{where(node)}: {remark.text}" for remark in node.remarks if remark.level == "warning"]
        gave_nothing = node.records_in and node.discarded == node.records_in and not node.records_out
        if node.role != "source" and gave_nothing and node.node in leads_on:
            hint = " (does it return what it makes?)" if node.role == "processor" else ""
            found.append(f"{where(node)} emitted nothing for {_all(node.records_in)}{hint}")
    return found


def notes(account: Account, where: Callable[[NodeAccount], str]) -> list[str]:
    """Return the facts that the nodes report for information, one sentence each."""
    return [
        f"{where(node)}: {remark.text}" for node in account.nodes for remark in node.remarks if remark.level == "info"
    ]


def recoveries(account: Account, where: Callable[[NodeAccount], str]) -> list[str]:
    """Return failures that were recovered or retried: one sentence for each node and kind."""
    found = []
    for node in account.nodes:
        last = " ".join(node.last_error.split())
        last_error = f", last error: {last}" if last else ""
        if node.reopened:
            found.append(f"{where(node)}: reopened {_times(node.reopened)}{last_error}")
        elif node.retries:
            found.append(f"{where(node)}: calls were retried {_times(node.retries)}{last_error}")
        if node.restarts:
            found.append(
                f"{where(node)}: its process died and another was started, {_times(node.restarts)}{last_error}"
            )
    return found


def _all(count: int) -> str:
    return "its only record" if count == 1 else f"all {count} records"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
