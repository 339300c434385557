"""Planning: the nodes that are fused into one lane, and the lanes, edges and workers of a run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import attrs

from penstock.component import supports
from penstock.compose.checks import neighbours
from penstock.compose.node import PLAIN, Edge, Node
from penstock.compose.resolve import ResolvedNode
from penstock.errors import RunError
from penstock.run.edges.chunk import Barrier
from penstock.run.edges.edge import LiveEdge
from penstock.run.edges.inbox import Inbox
from penstock.run.edges.outlet import ByChannel, ByLoad, ByTurns, Outlet
from penstock.run.lanes.context import LaneContext
from penstock.run.lanes.inbox_lane import InboxLane
from penstock.run.lanes.lane import Lane
from penstock.run.lanes.source_lane import SourceLane
from penstock.run.steps.make import step_for
from penstock.run.steps.step import Step
from penstock.store import SupportsTransaction

Join = tuple[str, str, Edge]


@attrs.define(eq=False)
class Plan:
    """The parts of a run.

    Attributes:
        lanes: All lanes.
        steps: The steps of each node that takes records, one for each worker.
        sources: The lane of each source.
        edges: The live edges of each join of two nodes, by (before, after); none where the two are fused.
        inner: Edges that the plan added, to gather the results of workers or to distribute records among them.
        aligned: Whether lanes wait for a barrier on all their edges: a store keeps positions with its records.
    """

    aligned: bool = False
    lanes: list[Lane] = attrs.field(factory=list)
    steps: dict[str, list[Step]] = attrs.field(factory=dict)
    sources: dict[str, SourceLane] = attrs.field(factory=dict)
    edges: dict[tuple[str, str], list[LiveEdge]] = attrs.field(factory=dict)
    inner: dict[str, list[LiveEdge]] = attrs.field(factory=dict)
    heads: dict[str, list[InboxLane]] = attrs.field(factory=dict)
    tails: dict[str, list[Lane]] = attrs.field(factory=dict)

    def announce(self, barrier: Barrier) -> None:
        """Announce a barrier to every inbox; one without an edge would never receive it."""
        for lane in list(self.lanes):
            if isinstance(lane, InboxLane):
                lane.inbox.expect(barrier)


@attrs.frozen(eq=False)
class Attachment:
    """An edge between a running lane and a new one; `giver` is the running lane if it is the one before, else None."""

    giver: Lane | None
    edge: LiveEdge


def chains(nodes: Sequence[Node], parts: Mapping[str, ResolvedNode], joins: Sequence[Join]) -> list[list[str]]:
    """Return the names of the nodes that are fused, list by list, in the order of the nodes."""
    behind, before = neighbours(joins)
    edges = {(first, second): edge for first, second, edge in joins}
    role = {node.name or "": node for node in nodes}

    def fused(first: str, second: str) -> bool:
        return (
            first in role
            and edges[first, second] == PLAIN
            and len(behind[first]) == 1
            and len(before[second]) == 1
            and role[first].workers == 1
            and role[second].workers == 1
            and role[first].place == role[second].place == "thread"
            and not (role[second].role == "store" and getattr(parts[second].sample, "blocks", True))
        )

    found = []
    for node in nodes:
        name = node.name or ""
        if len(before[name]) == 1 and fused(before[name][0], name):
            continue
        chain = [name]
        while len(behind[chain[-1]]) == 1 and behind[chain[-1]][0] in role and fused(chain[-1], behind[chain[-1]][0]):
            chain.append(behind[chain[-1]][0])
        found.append(chain)
    return found


def extend(
    run: LaneContext, built: Plan, nodes: Sequence[Node], parts: Mapping[str, ResolvedNode], joins: Sequence[Join]
) -> tuple[list[Lane], list[Attachment]]:
    """Add lanes for these nodes to a plan and join them, to each other and to nodes that the plan already has.

    Opens nothing and starts no thread. Running lanes send nothing to new ones until the attachments are made; edges
    from new to running lanes delay no barrier until their `since` is finite.

    Returns:
        The new lanes, and the attachments to make when they are open.

    Raises:
        RunError: a node that runs already cannot be joined in this way; the plan may have been added to.
    """
    old = set(built.steps) | set(built.sources)
    lanes_before = len(built.lanes)
    built.aligned = built.aligned or any(
        part.node.role == "store" and supports(part.sample, SupportsTransaction) for part in parts.values()
    )
    fused = {pair for chain in chains(nodes, parts, joins) for pair in itertools.pairwise(chain)}
    for chain in chains(nodes, parts, joins):
        _add_chain(run, built, [parts[name] for name in chain])
    behind, before = neighbours(joins)
    attachments: list[Attachment] = []
    for first, second, edge in joins:
        if (first, second) in fused:
            built.edges[first, second] = []
        elif first in old or second in old:
            attachments.append(_cross(run, built, first, second, edge, first in old))
        else:
            _join(run, built, parts, first, second, edge, len(behind[first]) == 1, len(before[second]) == 1)
    return built.lanes[lanes_before:], attachments


def _cross(run: LaneContext, built: Plan, first: str, second: str, edge: Edge, from_old: bool) -> Attachment:
    """Join a node that runs with one that is new."""
    name = f"{first} >> {second}"
    givers, takers = built.tails.get(first), built.heads.get(second)
    advice = "when the pipeline is made, put edge(capacity=...) where nodes are to be joined later"
    if givers is None:
        raise RunError(
            f"node {first!r} is fused with the node behind it, so no other node can be joined to it: {advice}"
        )
    if takers is None:
        raise RunError(f"node {second!r} is fused with the node before it, so no other node can feed it: {advice}")
    if len(givers) > 1 or len(takers) > 1:
        raise RunError(f"{name}: nodes with several workers cannot be joined while they run: {advice}")
    live = LiveEdge(takers[0].inbox, name, edge, since=math.inf)
    built.edges[first, second] = [live]
    if not from_old:
        givers[0].outlets = (*givers[0].outlets, live)
    return Attachment(giver=givers[0] if from_old else None, edge=live)


def _add_chain(run: LaneContext, built: Plan, chain: Sequence[ResolvedNode]) -> None:
    head, node = chain[0], chain[0].node
    name = node.name or ""
    tail = chain[-1].node.name or ""
    if node.role == "source":
        steps = [step_for(part, run) for part in chain[1:]]
        reader = SourceLane(run, head, steps)
        built.sources[name] = reader
        lanes: list[Lane] = [reader]
    else:
        counted = node.workers > 1 and node.role == "processor" and node.ordered
        readers = []
        for number in range(node.workers):
            steps = [step_for(part, run) for part in chain]
            title = "+".join(step.name for step in steps) + (f"[{number}]" if node.workers > 1 else "")
            readers.append(_reader(node)(run, title, steps, Inbox(aligned=built.aligned), counted=counted))
        built.heads[name] = readers
        lanes = list(readers)
    built.tails[tail] = lanes
    for lane in lanes:
        for step in lane.steps:
            workers = built.steps.setdefault(step.name, [])
            if workers:
                step.share_names(workers[0])
            workers.append(step)
    built.lanes.extend(lanes)


def _reader(node: Node) -> type[InboxLane]:
    """Return the kind of lane that reads edges for a node."""
    if node.place == "process" and node.role != "store":
        from penstock.run.lanes.process_lane import ProcessLane

        return ProcessLane
    return InboxLane


def _join(
    run: LaneContext,
    built: Plan,
    parts: Mapping[str, ResolvedNode],
    first: str,
    second: str,
    edge: Edge,
    only_out: bool,
    only_in: bool,
) -> None:
    name = f"{first} >> {second}"
    givers, takers = built.tails[first], built.heads[second]
    since = run.checkpoints.number
    direct = edge == PLAIN and only_in
    if len(givers) > 1 and not (direct and only_out and len(takers) == 1):
        givers = [_gatherer(run, built, parts[first].node, givers)]
        built.tails[first] = givers
    if len(takers) > 1 and not direct:
        takers = [_scatterer(run, built, parts[second].node, takers)]
        built.heads[second] = takers
    if len(givers) > 1:
        live = _gather(takers[0].inbox, givers, name, parts[first].node, since)
    elif len(takers) > 1:
        live = _scatter(givers[0], takers, name, parts[second].node, since)
    else:
        live = [LiveEdge(takers[0].inbox, name, edge, since=since)]
        givers[0].outlets = (*givers[0].outlets, live[0])
    built.edges[first, second] = live


def _gather(inbox: Inbox, givers: Sequence[Lane], name: str, node: Node, since: int) -> list[LiveEdge]:
    inbox.in_turn = node.ordered and node.role == "processor"
    live = []
    for lane in givers:
        edge = LiveEdge(inbox, name, PLAIN, since=since, counted=inbox.in_turn)
        lane.outlets = (*lane.outlets, edge)
        live.append(edge)
    return live


def _scatter(giver: Lane, takers: Sequence[InboxLane], name: str, node: Node, since: int) -> list[LiveEdge]:
    ordered = node.ordered and node.role == "processor"
    live = [LiveEdge(lane.inbox, name, PLAIN, since=since, counted=ordered) for lane in takers]
    outlet: Outlet
    if node.role == "decoder":
        outlet = ByChannel(live)
    elif node.ordered:
        outlet = ByTurns(live)
    else:
        outlet = ByLoad(live)
    giver.outlets = (*giver.outlets, outlet)
    return live


def _gatherer(run: LaneContext, built: Plan, node: Node, givers: Sequence[Lane]) -> Lane:
    inbox = Inbox(aligned=built.aligned)
    lane = InboxLane(run, f"{node.name}:gather", [], inbox)
    built.inner[lane.name] = _gather(inbox, givers, lane.name, node, run.checkpoints.number)
    built.lanes.append(lane)
    return lane


def _scatterer(run: LaneContext, built: Plan, node: Node, takers: Sequence[InboxLane]) -> InboxLane:
    lane = InboxLane(run, f"{node.name}:spread", [], Inbox(aligned=built.aligned))
    lane.node = takers[0].node
    built.inner[lane.name] = _scatter(lane, takers, lane.name, node, run.checkpoints.number)
    built.lanes.append(lane)
    return lane
