"""Changes to a running pipeline: nodes are added, removed and replaced; nothing else is interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from functools import partial
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

import attrs

from penstock.compose.checks import kind_problems, neighbours, option_problems, sharing_problems
from penstock.compose.node import Flow, Joinable, Node, describe, name_nodes
from penstock.compose.resolve import ResolvedNode, resolve
from penstock.errors import RunError, WiringError
from penstock.report.account import Account, EdgeAccount, NodeAccount, count_lost
from penstock.run.claims import Claims
from penstock.run.edges.chunk import END
from penstock.run.edges.edge import LiveEdge
from penstock.run.lanes.context import LaneContext
from penstock.run.lanes.lane import Lane
from penstock.run.lanes.opening import Opening
from penstock.run.lanes.source_lane import SourceLane
from penstock.run.plan.collect import take_account
from penstock.run.plan.planning import Attachment, Join, Plan, extend
from penstock.run.plan.turns import Turns
from penstock.run.steps.store_step import StoreStep


class ChangingRun(LaneContext, Protocol):
    """A run, as seen by a change."""

    at_work: bool
    claims: Claims
    turns: Turns

    @property
    def name(self) -> str:
        """The name of the run."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        ...

    def lanes_start(self, lanes: Sequence[Lane]) -> None:
        """Start the threads of lanes."""
        ...

    def checkpoint_soon(self) -> None:
        """Begin a checkpoint as soon as none is active."""
        ...


LOOK_AGAIN_S: Final = 0.2
"""Seconds after which a waiting change checks again whether the run is over."""


@attrs.define(eq=False)
class Graph:
    """The current nodes and joins of a run, which may differ from the pipeline that it began with.

    Attributes:
        nodes, parts: The nodes, and the resolved nodes, by name.
        joins: The joins between them.
        names: The names of the node objects in `nodes`, and of those that users still hold.
        retired: The accounts of removed nodes and edges; for each name, the sum.
        lock: Held briefly while the plan is changed or read as a whole.
    """

    nodes: dict[str, Node]
    parts: dict[str, ResolvedNode]
    joins: list[Join]
    names: WeakKeyDictionary[Node, str] = attrs.field(factory=WeakKeyDictionary)
    retired_nodes: dict[str, NodeAccount] = attrs.field(factory=dict)
    retired_edges: dict[str, EdgeAccount] = attrs.field(factory=dict)
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def name_of(self, node: Node | str) -> str:
        """Return the name of a node of the run. Raises RunError."""
        name = self.names.get(node) if isinstance(node, Node) else node
        if name is None or name not in self.nodes:
            wanted = describe(node) if isinstance(node, Node) else f"node {node!r}"
            raise RunError(f"{wanted} is not in the run; it has {', '.join(self.nodes)}")
        return name


def add(
    run: ChangingRun,
    graph: Graph,
    built: Plan,
    flows: Sequence[Joinable],
    checked: Mapping[str, ResolvedNode] | None = None,
) -> list[str]:
    """Add the new nodes of these flows; return their names. See `Run.add`.

    `checked` holds the resolved new nodes, if they have already been resolved and checked.
    """
    joined = [Flow.of(flow) for flow in flows]
    every = dict.fromkeys(node for flow in joined for node in flow.nodes)
    fresh = [node for node in every if node not in graph.names]
    names = {**graph.names, **name_nodes(fresh, graph.nodes)}
    nodes = [attrs.evolve(node, name=names[node]) for node in fresh]
    joins = [
        (names[first], names[second], edge)
        for first, second, edge in dict.fromkeys(edge for flow in joined for edge in flow.edges)
    ]
    new = {node.name or "" for node in nodes}
    known = {(first, second) for first, second, _ in graph.joins}
    joins = [join for join in joins if join[:2] not in known]
    _check(new, nodes, joins)
    parts = dict(checked) if checked is not None else _resolve(run, graph, nodes, joins)
    run.claims.take(parts.values())
    lanes: list[Lane] = []
    attachments: list[Attachment] = []
    before = len(built.lanes)
    try:
        with graph.lock:
            lanes, attachments = extend(run, built, nodes, parts, joins)
        _open(run, lanes)
        run.at_work = True  # from here on records flow
    except BaseException:
        for lane in built.lanes[before:]:
            lane.cancel()
        with graph.lock:
            _forget(built, built.lanes[before:], new)
        run.claims.drop(new)
        raise
    _attach(run, lanes, attachments)
    graph.nodes.update({node.name or "": node for node in nodes})
    graph.parts.update(parts)
    graph.joins.extend(joins)
    graph.names.update({node: names[node] for node in fresh})
    graph.names.update({node: node.name or "" for node in nodes})
    return [node.name or "" for node in nodes]


def _resolve(run: ChangingRun, graph: Graph, nodes: Sequence[Node], joins: Sequence[Join]) -> dict[str, ResolvedNode]:
    parts = {node.name or "": resolve(node, run.plugins) for node in nodes}
    every = {**graph.parts, **parts}
    problems = kind_problems(every, joins) + option_problems(parts.values(), run.plugins)
    problems += sharing_problems(every.values())
    if problems:
        raise WiringError("; ".join(problems))
    return parts


def _check(new: set[str], nodes: Sequence[Node], joins: Sequence[Join]) -> None:
    behind, before = neighbours(joins)
    problems = [f"{a!r} and {b!r} both run already: they cannot be joined now" for a, b, _ in joins if not {a, b} & new]
    for node in nodes:
        name = node.name or ""
        if node.role == "source" and not behind[name]:
            problems.append(f"{describe(node)}: nothing takes the records of this source")
        if node.role != "source" and not before[name]:
            problems.append(f"{describe(node)}: this {node.role} has no input")
    if not nodes:
        problems.append("the flows have no new node")
    if problems:
        raise WiringError("; ".join(problems))


def _open(run: ChangingRun, lanes: Sequence[Lane]) -> None:
    opening = Opening(lanes)
    for lane in lanes:
        lane.opening = opening
    run.lanes_start(lanes)
    try:
        opening.wait()
    except BaseException:
        for lane in lanes:
            lane.thread.join()
        raise


def _attach(run: ChangingRun, lanes: Sequence[Lane], attachments: Sequence[Attachment]) -> None:
    """Join old lanes to new ones, and include the new ones in checkpoints, at one moment."""
    with run.checkpoints.lock:
        for attachment in attachments:
            edge = attachment.edge
            with edge.inbox.lock:
                edge.since = run.checkpoints.number
            if attachment.giver is not None:
                edge.partial = True
                attachment.giver.outlets = (*attachment.giver.outlets, edge)
        run.checkpoints.join(
            [lane for lane in lanes if isinstance(lane, SourceLane)],
            [step for lane in lanes for step in lane.steps if isinstance(step, StoreStep)],
        )
    for lane in lanes:
        lane.released.set()


def remove(run: ChangingRun, graph: Graph, built: Plan, nodes: Sequence[Node | str]) -> None:
    """Remove nodes, and the decoders and processors that only they feed. See `Run.remove`."""
    going = {graph.name_of(node) for node in nodes}
    _, before = neighbours(graph.joins)
    while True:
        more = {
            name
            for name, node in graph.nodes.items()
            if name not in going
            and node.role not in ("source", "store")
            and before[name]
            and set(before[name]) <= going
        }
        if not more:
            break
        going |= more
    lanes = [lane for lane in built.lanes if lane.node_names() & going]
    for lane in lanes:
        if not lane.node_names() <= going:
            stay, go = sorted(lane.node_names() - going), sorted(lane.node_names() & going)
            raise RunError(
                f"{', '.join(map(repr, go))} cannot be removed: fused with {', '.join(map(repr, stay))}; remove that, "
                "too, or put edge(capacity=...) between them when the pipeline is made"
            )
    _check_consumers(graph, going)
    run.turns.leaving([step.component for lane in lanes for step in lane.steps])
    drained: list[LiveEdge] = []
    for (first, second), live in built.edges.items():
        if first in going and second not in going:
            for edge in live:
                with edge.inbox.lock:
                    edge.detached = True
                drained.append(edge)
        elif second in going and first not in going:
            for edge in live:
                _leave(run, built, first, edge)
    for name in going & built.sources.keys():
        built.sources[name].stop()
    run.checkpoint_soon()
    for edge in drained:
        _until(run, edge.drained.wait)
    for lane in lanes:
        _until(run, partial(_left, lane))
    with graph.lock:
        _retire(graph, built, going, lanes)
    run.claims.drop(going)


def _check_consumers(graph: Graph, going: set[str]) -> None:
    """Raise RunError if a node that stays would have no consumer: its records would go nowhere."""
    behind, _ = neighbours(graph.joins)
    for name in graph.nodes.keys() - going:
        if behind[name] and set(behind[name]) <= going:
            gone = ", ".join(map(repr, behind[name]))
            raise RunError(
                f"{gone} cannot be removed: nothing else takes the records of {name!r}; "
                f"remove {name!r} too, add another consumer first, or replace it"
            )


def _until(run: ChangingRun, wait: Callable[[float], bool]) -> None:
    """Wait until `wait` succeeds. Raises RunError if the run ends first because of an abort."""
    while not wait(LOOK_AGAIN_S):
        if run.finished:
            raise RunError(f"run {run.name!r} was aborted before the change was complete")


def _left(lane: Lane, timeout_s: float) -> bool:
    lane.thread.join(timeout_s)
    return not lane.thread.is_alive()


def _ask_lane(run: ChangingRun, lane: Lane, errand: Callable[[], None]) -> None:
    """Have the thread of a lane call this, and wait for it. Raises RunError."""
    future = lane.ask(errand)
    _until(run, lambda timeout_s: bool(wait([future], timeout_s).done))
    future.result()


def _leave(run: ChangingRun, built: Plan, first: str, edge: LiveEdge) -> None:
    [lane] = built.tails[first]
    if lane.ended:
        return
    try:
        _ask_lane(run, lane, lambda: lane.leave_edge(edge))
    except RunError:  # the lane has ended in the meantime, and with it the edge
        if not lane.ended:
            raise


def _retire(graph: Graph, built: Plan, going: set[str], lanes: Sequence[Lane]) -> None:
    """Keep the sums of the removed nodes and edges, and forget the rest."""
    account = take_account(built, 0.0)
    for node in account.nodes:
        if node.node in going:
            graph.retired_nodes[node.node] = _sum(graph.retired_nodes.get(node.node), node)
    for edge in account.edges:
        if {edge.before, edge.after} & going:
            graph.retired_edges[edge.edge] = _sum(graph.retired_edges.get(edge.edge), edge)
    _forget(built, lanes, going)
    graph.joins = [join for join in graph.joins if not {join[0], join[1]} & going]
    for gone in [node for node, name in graph.names.items() if name in going]:
        del graph.names[gone]
    for name in going:
        del graph.nodes[name], graph.parts[name]


def _forget(built: Plan, lanes: Sequence[Lane], names: set[str]) -> None:
    gone = set(lanes)
    for live in [edges for pair, edges in built.edges.items() if set(pair) & names]:
        for edge in live:
            if not edge.drained.is_set():  # a lane that could not be opened never sent anything
                with edge.inbox.lock:
                    edge.detached = True
                edge.control(END)
    built.lanes = [lane for lane in built.lanes if lane not in gone]
    built.edges = {pair: live for pair, live in built.edges.items() if not set(pair) & names}
    built.inner = {name: live for name, live in built.inner.items() if name.partition(":")[0] not in names}
    for name in names:
        for table in (built.steps, built.sources, built.heads, built.tails):
            table.pop(name, None)


def replace(run: ChangingRun, graph: Graph, built: Plan, node: Node | str, new: Node) -> None:
    """Replace a component. See `Run.replace`."""
    name = graph.name_of(node)
    old = graph.nodes[name]
    if new.role != old.role:
        raise WiringError(f"node {name!r} is a {old.role}: a {new.role} cannot take its place")
    fresh = attrs.evolve(new, name=name, workers=old.workers, ordered=old.ordered)
    part = resolve(fresh, run.plugins)
    problems = kind_problems({**graph.parts, name: part}, graph.joins)
    if problems:
        raise WiringError("; ".join(problems))
    with run.claims.exchanged(part):
        _swap(run, built, part)
    graph.nodes[name], graph.parts[name] = fresh, part
    graph.names[new] = graph.names[fresh] = name


def _swap(run: ChangingRun, built: Plan, resolved: ResolvedNode) -> None:
    name = resolved.node.name or ""
    if resolved.node.role == "source":
        lane = built.sources[name]
        _ask_lane(run, lane, lambda: lane.swap_source(resolved))
    else:
        run.turns.leaving([step.component for step in built.steps[name]])
        for index, step in enumerate(built.steps[name]):
            host = next(lane for lane in built.lanes if step in lane.steps)

            def errand(host: Lane = host, index: int = index) -> None:
                before = built.steps[name][index]
                after = host.swap(before, resolved)
                built.steps[name][index] = after
                if isinstance(before, StoreStep) and isinstance(after, StoreStep):
                    run.checkpoints.exchange(before, after)

            _ask_lane(run, host, errand)


def whole_account(graph: Graph, built: Plan, elapsed_s: float, *, aborted: bool = False) -> Account:
    """Return the account of all running and removed nodes and edges."""
    with graph.lock:
        account = take_account(built, elapsed_s)
        nodes = {node.node: node for node in account.nodes}
        edges = {edge.edge: edge for edge in account.edges}
        for name, node in graph.retired_nodes.items():
            nodes[name] = _sum(node, nodes[name]) if name in nodes else node
        for title, edge in graph.retired_edges.items():
            edges[title] = _sum(edge, edges[title]) if title in edges else edge
    every = list(edges.values())
    if aborted:
        count_lost(every, nodes)
    return Account(nodes=list(nodes.values()), edges=every, elapsed_s=elapsed_s)


def _sum(first: Any, second: Any) -> Any:
    """Add the counts of two accounts of the same name; other fields are the second's."""
    if first is None:
        return second
    changes: dict[str, Any] = {}
    for field in attrs.fields(type(second)):
        one, two = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, Mapping):
            changes[field.name] = _sum_maps(one, two)
        elif type(one) is type(two) is int and field.name != "lag":
            changes[field.name] = one + two
    return attrs.evolve(second, **changes)


def _sum_maps(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, Any]:
    summed = dict(two)
    for key, value in one.items():
        if key not in summed:
            summed[key] = value
        elif isinstance(value, Mapping):
            summed[key] = _sum_maps(value, summed[key])
        else:
            summed[key] = summed[key] + value
    return summed
