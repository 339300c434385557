"""Collect the account of a run from the counters of its lanes and edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from penstock.report.account import Account, EdgeAccount, NodeAccount
from penstock.report.counters import Tally
from penstock.report.latency import Latency
from penstock.run.edges.edge import LiveEdge
from penstock.run.lanes.source_lane import SourceLane
from penstock.run.plan.planning import Plan
from penstock.run.steps.step import Step


def take_account(built: Plan, elapsed_s: float) -> Account:
    """Read all counters. Those of a run at work are each right, but not all of the same instant."""
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
    tally, missing, dropped = lane.tally, lane.figures.lost_upstream(), lane.figures.dropped_upstream()
    return NodeAccount(
        node=name,
        role="source",
        component=lane.part.origin,
        received=tally.received.total(),
        dead_lettered=tally.dead_lettered.total(),
        skipped=tally.skipped.total(),
        failed=tally.failed.total(),
        lost=tally.lost,
        lost_upstream=missing.total(),
        dropped_upstream=dropped.total(),
        rejected=lane.figures.rejected(),
        channels=_channels(
            {
                "received": tally.received,
                "lost_upstream": missing,
                "dropped_upstream": dropped,
                "dead_lettered": tally.dead_lettered,
                "skipped": tally.skipped,
                "failed": tally.failed,
            }
        ),
        rate=tally.received.total() / elapsed_s if elapsed_s else 0.0,
        data_bytes=tally.data_bytes,
        retries=tally.retries,
        restarts=tally.restarts,
        reopened=tally.reopened,
        lag=lane.figures.lag(),
        remark=lane.figures.remark(),
        last_error=tally.last_error,
    )


def _steps(name: str, steps: Sequence[Step], elapsed_s: float) -> NodeAccount:
    tallies = [step.tally for step in steps]
    part = steps[0].part
    work, age = Latency(), Latency()
    for tally in tallies:
        work.merge(tally.work)
        age.merge(tally.age)
    counters = {
        field: _total(getattr(tally, field) for tally in tallies)
        for field in ("discarded", "stored", "dead_lettered", "skipped", "failed")
    }
    taken = _sum(tallies, "taken")
    return NodeAccount(
        node=name,
        role=part.node.role,
        component=part.origin,
        taken=taken,
        passed=_sum(tallies, "passed"),
        extra=_sum(tallies, "extra"),
        gathered=_sum(tallies, "gathered"),
        lost=_sum(tallies, "lost"),
        data_bytes=_sum(tallies, "data_bytes"),
        retries=_sum(tallies, "retries"),
        syncs=_sum(tallies, "syncs"),
        restarts=_sum(tallies, "restarts"),
        channels=_channels(counters),
        rate=taken / elapsed_s if elapsed_s else 0.0,
        work_p50_s=work.percentile_s(50),
        work_p99_s=work.percentile_s(99),
        age_p50_s=age.percentile_s(50),
        age_p99_s=age.percentile_s(99),
        remark=next((tally.remark for tally in tallies if tally.remark), ""),
        first_error=next((tally.first_error for tally in tallies if tally.first_error), ""),
        last_error=next((tally.last_error for tally in reversed(tallies) if tally.last_error), ""),
        **{field: counter.total() for field, counter in counters.items()},
    )


def _total(counters: Iterable[Counter[str]]) -> Counter[str]:
    """Add counters to which lanes go on adding channels: `dict` copies each atomically."""
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(dict(counter))
    return total


def _sum(tallies: Sequence[Tally], field: str) -> int:
    return sum(int(getattr(tally, field)) for tally in tallies)


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
        put=nodes[first].sent,
        taken=nodes[second].taken,
    )
