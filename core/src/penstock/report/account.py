"""The account: the counters of every node, edge and channel, and whether they add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import attrs

from penstock.component import Remark
from penstock.errors import ObjectNotFoundError
from penstock.suggestions import close_to


@attrs.frozen(kw_only=True)
class NodeAccount:
    """The counters of one node.

    They add up: records_in = passed + discarded + thinned + buffered + stored + dead_lettered + skipped + failed
    + lost.

    Attributes:
        node, role, component: Its name, its role, and the distribution that offers the component.
        received: Records that a source returned.
        records_in: Records that the node received.
        passed, extra: Records with at least one result; results beyond one for each of these.
        discarded: Records without a result.
        thinned: Records whose content a decoder left out, as its settings say (a lower rate, keyframes only).
        buffered: Records whose content leaves with that of others (batches, pictures inside a decoder).
        stored, dead_lettered, skipped, failed: The other records, by outcome; `failed` ended the run.
        lost: Records inside the node at an abort, or refused even by the dead letters.
        lost_upstream: Records that a source found missing on arrival.
        dropped_upstream: Records that a source dropped, as configured (`latest`).
        rejected: Messages that a source received and that were not valid records.
        channels: For each channel, its received, lost_upstream, dropped_upstream, discarded, thinned, stored,
            dead_lettered, skipped and failed, as far as they are not 0.
        rate: Records per second, over the whole run.
        data_bytes: Approximate bytes of data that a source returned or a store wrote.
        work_p50_s, work_p99_s: Seconds that it works on one record.
        latency_p50_s, latency_p99_s: Seconds from a record's receipt by the source until a store has written it.
        retries, syncs, restarts: Repeated calls; syncs; processes started to replace one that died.
        reopened: How often a source was closed and reopened after an error.
        lag: Records that wait at the sender, if the source reports it.
        lag_s: Seconds by which the source is behind, if it reports it.
        remarks: Facts that a source or decoder reports, as warnings or for information.
        first_error, last_error: The error of the first record that failed for good; the last error of any call; or "".
    """

    node: str
    role: str
    component: str
    received: int = 0
    records_in: int = 0
    passed: int = 0
    extra: int = 0
    discarded: int = 0
    thinned: int = 0
    buffered: int = 0
    stored: int = 0
    dead_lettered: int = 0
    skipped: int = 0
    failed: int = 0
    lost: int = 0
    lost_upstream: int = 0
    dropped_upstream: int = 0
    rejected: int = 0
    channels: Mapping[str, Mapping[str, int]] = attrs.field(factory=dict)
    rate: float = 0.0
    data_bytes: int = 0
    work_p50_s: float | None = None
    work_p99_s: float | None = None
    latency_p50_s: float | None = None
    latency_p99_s: float | None = None
    retries: int = 0
    syncs: int = 0
    restarts: int = 0
    reopened: int = 0
    lag: int | None = None
    lag_s: float | None = None
    first_error: str = ""
    last_error: str = ""
    remarks: tuple[Remark, ...] = ()

    def __repr__(self) -> str:
        return f"NodeAccount({self.node!r}, {self.role}{_counts(self)})"

    @property
    def records_out(self) -> int:
        """Records that it emitted."""
        if self.role == "source":
            return self.received - self.dead_lettered - self.skipped - self.failed - self.lost
        return self.passed + self.extra

    @property
    def accounted(self) -> int:
        """Records with a known outcome."""
        ends = self.stored + self.dead_lettered + self.skipped + self.failed + self.lost
        return self.passed + self.discarded + self.thinned + self.buffered + ends


@attrs.frozen(kw_only=True)
class EdgeAccount:
    """The counters of one edge. They add up: put + recovered = taken + dropped + lost + kept + in_flight.

    Attributes:
        put, taken: Records that the node before it put, and that the node behind it took.
        dropped: Records that its policy dropped.
        lost: Records that an abort left inside.
        recovered: Records that a dead run had left in the files of an edge that spills; they were taken first.
        kept: Records that an abort left in its files, for the next run.
        in_flight: Records that wait.
        partial: It existed only for a part of the run: the node before it emitted more than was put.
        channels: For each channel, its dropped and its in_flight (without those in files), if they are not 0.
    """

    edge: str
    before: str
    after: str
    when_full: str = "block"
    put: int = 0
    taken: int = 0
    dropped: int = 0
    lost: int = 0
    recovered: int = 0
    kept: int = 0
    in_flight: int = 0
    partial: bool = False
    channels: Mapping[str, Mapping[str, int]] = attrs.field(factory=dict)

    def __repr__(self) -> str:
        return f"EdgeAccount({self.edge!r}{_counts(self)})"


@attrs.frozen(kw_only=True)
class Account:
    """Every node and edge of a run at one moment."""

    nodes: Sequence[NodeAccount]
    edges: Sequence[EdgeAccount]
    elapsed_s: float

    def __repr__(self) -> str:
        return f"Account({len(self.nodes)} nodes, {len(self.edges)} edges, {self.elapsed_s:.2f} s)"

    def total(self, field: str) -> int:
        """Return the sum of a count over all nodes, or, for "dropped" and "in_flight", over all edges."""
        if field in ("dropped", "in_flight"):
            return sum(int(getattr(edge, field)) for edge in self.edges)
        lost = sum(edge.lost for edge in self.edges) if field == "lost" else 0
        return lost + sum(int(getattr(node, field)) for node in self.nodes)

    @property
    def under_way(self) -> int:
        """Records on edges and inside decoders, processors and stores."""
        came: Counter[str] = Counter()
        for edge in self.edges:
            came[edge.after] += edge.taken
        in_hand = (
            max(came[node.node], node.records_in) - node.accounted for node in self.nodes if node.role != "source"
        )
        return self.total("in_flight") + sum(max(0, count) for count in in_hand)

    def node(self, name: str) -> NodeAccount:
        """Return the account of a node. Raises ObjectNotFoundError, which is a KeyError."""
        for node in self.nodes:
            if node.node == name:
                return node
        known = [node.node for node in self.nodes]
        raise ObjectNotFoundError(f"no node {name!r}; there are {', '.join(known)}{close_to(name, known)}")

    def edge(self, before: str, after: str) -> EdgeAccount:
        """Return the account of the edge between two nodes. Raises ObjectNotFoundError, which is a KeyError."""
        for edge in self.edges:
            if (edge.before, edge.after) == (before, after):
                return edge
        known = ", ".join(edge.edge for edge in self.edges)
        raise ObjectNotFoundError(f"no edge {before!r} >> {after!r}; there are {known}")

    def imbalances(self) -> list[str]:
        """Return the counters that do not add up, a sentence each; empty if all do. Valid when the run is over."""
        problems = []
        for edge in self.edges:
            came_in = edge.put + edge.recovered
            ends = edge.taken + edge.dropped + edge.lost + edge.kept + edge.in_flight
            if came_in != ends:
                problems.append(
                    f"edge {edge.edge}: put {came_in}, but taken, dropped, lost, kept and in flight are {ends}"
                )
        for node in self.nodes:
            if node.role != "source" and node.records_in != node.accounted:
                problems.append(
                    f"node {node.node}: records_in is {node.records_in}, but the outcomes are {node.accounted}"
                )
            gone = [edge for edge in self.edges if edge.before == node.node]
            if node.records_out > sum(edge.put for edge in gone) and (gone or node.role == "source"):
                problems.append(f"node {node.node}: emitted {node.records_out}, of which some reached no node")
            came = [edge for edge in self.edges if edge.after == node.node]
            given = sum(edge.taken for edge in came)
            if came and given != node.records_in:
                problems.append(f"node {node.node}: its edges delivered {given}, but records_in is {node.records_in}")
            for edge in self.edges:
                if edge.before == node.node and edge.put != node.records_out and not edge.partial:
                    problems.append(f"edge {edge.edge}: {node.node} sent {node.records_out}, but {edge.put} were put")
        return problems


def count_lost(edges: list[EdgeAccount], nodes: dict[str, NodeAccount]) -> None:
    """Count as lost, after an abort, the records inside lanes; for all edges and nodes, including removed ones."""
    for index, edge in enumerate(edges):
        sent = nodes[edge.before].records_out if edge.before in nodes and not edge.partial else edge.put
        short = max(0, sent - edge.put)
        edges[index] = attrs.evolve(edge, put=edge.put + short, lost=edge.lost + short)
    for name, node in nodes.items():
        behind = [index for index, edge in enumerate(edges) if edge.before == name]
        short = node.records_out - sum(edges[index].put for index in behind)
        if behind and short > 0:  # one of its edges existed only for a part of the time
            edge = edges[behind[-1]]
            edges[behind[-1]] = attrs.evolve(edge, put=edge.put + short, lost=edge.lost + short)
    for name, node in nodes.items():
        came = sum(edge.taken for edge in edges if edge.after == name)
        taken = max(node.records_in, came)
        nodes[name] = attrs.evolve(node, records_in=taken, lost=node.lost + max(0, taken - node.accounted))


def _counts(account: NodeAccount | EdgeAccount) -> str:
    """Return the counts of an account that are not 0: ", taken=3, sent=2"."""
    found = ((field.name, getattr(account, field.name)) for field in attrs.fields(type(account)))
    return "".join(f", {name}={value}" for name, value in found if type(value) is int and value)
