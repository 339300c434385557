"""Collect the account of a run from the counters of its lanes and edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from penstock.report.account import Account, EdgeAccount, NodeAccount
from penstock.report.counters import Counters
from penstock.report.latency import Latency
from penstock.run.edges.edge import LiveEdge
from penstock.run.lanes.source_lane import SourceLane
from penstock.run.plan.planning import Plan
from penstock.run.source_reports import REPORTS
from penstock.run.steps.step import Step


def take_account(built: Plan, elapsed_s: float) -> Account:
    """Read all counters. While the run is at work, each is correct, but they are not all of the same instant."""
    nodes: dict[str, NodeAccount] = {}
    for name, lane in built.sources.items():
        nodes[name] = _source(name, lane, elapsed_s)
    for name, steps in built.steps.items():
        nodes[name] = _steps(name, steps, elapsed_s)
    edges = []
    for (first, second), live in built.edges.items():
        if live:
            edges.append(_edge(first, second, live))
        else:
            edges.append(_fused(first, second, nodes))
    for name, live in built.inner.items():
        edges.append(_edge(name, name, live))
    return Account(nodes=list(nodes.values()), edges=edges, elapsed_s=elapsed_s)


def _source(name: str, lane: SourceLane, elapsed_s: float) -> NodeAccount:
    counters = lane.counters
    reported = {report: lane.source_counters.get(report) for report in REPORTS}
    missing, dropped = reported.pop("lost_upstream"), reported.pop("dropped_upstream")
    return NodeAccount(
        node=name,
        role="source",
        component=lane.resolved.origin,
        received=counters.received.total(),
        dead_lettered=counters.dead_lettered.total(),
        skipped=counters.skipped.total(),
        failed=counters.failed.total(),
        lost=counters.lost,
        lost_upstream=missing.total(),
        dropped_upstream=dropped.total(),
        channels=_channels(
            {
                "received": counters.received,
                "lost_upstream": missing,
                "dropped_upstream": dropped,
                "dead_lettered": counters.dead_lettered,
                "skipped": counters.skipped,
                "failed": counters.failed,
            }
        ),
        rate=counters.received.total() / elapsed_s if elapsed_s else 0.0,
        data_bytes=counters.data_bytes,
        retries=counters.retries,
        restarts=counters.restarts,
        reopened=counters.reopened,
        first_error=counters.first_error,
        last_error=counters.last_error,
        **reported,
    )


def _steps(name: str, steps: Sequence[Step], elapsed_s: float) -> NodeAccount:
    all_counters = [step.counters for step in steps]
    part = steps[0].resolved
    work, latency = Latency(), Latency()
    for counters in all_counters:
        work.merge(counters.work)
        latency.merge(counters.latency)
    by_channel = {
        field: _total(getattr(counters, field) for counters in all_counters)
        for field in ("discarded", "thinned", "stored", "dead_lettered", "skipped", "failed")
    }
    records_in = _sum(all_counters, "records_in")
    return NodeAccount(
        node=name,
        role=part.node.role,
        component=part.origin,
        records_in=records_in,
        passed=_sum(all_counters, "passed"),
        extra=_sum(all_counters, "extra"),
        buffered=_sum(all_counters, "buffered"),
        lost=_sum(all_counters, "lost"),
        data_bytes=_sum(all_counters, "data_bytes"),
        retries=_sum(all_counters, "retries"),
        syncs=_sum(all_counters, "syncs"),
        restarts=_sum(all_counters, "restarts"),
        channels=_channels(by_channel),
        rate=records_in / elapsed_s if elapsed_s else 0.0,
        work_p50_s=work.percentile_s(50),
        work_p99_s=work.percentile_s(99),
        latency_p50_s=latency.percentile_s(50),
        latency_p99_s=latency.percentile_s(99),
        remarks=tuple(dict.fromkeys(remark for counters in all_counters for remark in tuple(counters.remarks))),
        first_error=next((counters.first_error for counters in all_counters if counters.first_error), ""),
        last_error=next((counters.last_error for counters in reversed(all_counters) if counters.last_error), ""),
        **{field: counter.total() for field, counter in by_channel.items()},
    )


def _total(counters: Iterable[Counter[str]]) -> Counter[str]:
    """Add counters to which lanes may be adding channels: `dict` copies each atomically."""
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(dict(counter))
    return total


def _sum(all_counters: Sequence[Counters], field: str) -> int:
    return sum(int(getattr(counters, field)) for counters in all_counters)


def _channels(counters: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for field, counter in counters.items():
        for channel, count in dict(counter).items():  # `dict` copies it atomically; its lane continues counting
            if count:
                found.setdefault(channel, {})[field] = count
    return found


def _edge(first: str, second: str, live: Sequence[LiveEdge]) -> EdgeAccount:
    dropped = _total(edge.dropped for edge in live)
    return EdgeAccount(
        edge=live[0].name,
        before=first,
        after=second,
        when_full=str(live[0].settings.when_full),
        put=sum(edge.put_count for edge in live),
        taken=sum(edge.taken_count for edge in live),
        dropped=dropped.total(),
        lost=sum(edge.lost_count for edge in live),
        recovered=sum(edge.recovered_count for edge in live),
        kept=sum(edge.kept_count for edge in live),
        in_flight=sum(edge.waiting for edge in live),
        partial=any(edge.partial for edge in live),
        channels=_channels({"dropped": dropped, "in_flight": _total(edge.waiting_channels() for edge in live)}),
    )


def _fused(first: str, second: str, nodes: Mapping[str, NodeAccount]) -> EdgeAccount:
    return EdgeAccount(
        edge=f"{first} >> {second}",
        before=first,
        after=second,
        put=nodes[first].records_out,
        taken=nodes[second].records_in,
    )
