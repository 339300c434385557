"""Node and Edge: the parts of a pipeline, as plain data, and `>>`, which joins them into flows."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import attrs

from penstock import validators
from penstock.arguments import checks_arguments
from penstock.component import ROLES
from penstock.compose.policies import POLICIES, Block, Policy, policy_of
from penstock.compose.retry import Retry
from penstock.errors import WiringError
from penstock.short_text import listed, setting
from penstock.validators import at_least, flag, numpy_scalars, of_class, one_of, or_none, seconds

OnError = Literal["stop", "skip", "dead_letter"]
Place = Literal["thread", "process"]


@checks_arguments
@attrs.frozen(kw_only=True, field_transformer=numpy_scalars)
class Edge:
    """The edge between two nodes: its capacity, and the policy for when it is full.

    Attributes:
        capacity: The most records that it holds; None: 1024.
        capacity_bytes: The most bytes of data that it holds, unless it holds a single record; None: 64 MiB. Sizes of
            small records are estimated from a sample.
        when_full: A policy, or its name: `Block()` or "block" (the source waits), `DropOldest()` or
            "drop_oldest", `DropNewest()` or "drop_newest", `Latest()` or "latest" (keep the newest of each channel),
            `Sample(10)` or "sample(10)" (wait for every tenth of a channel, drop the others),
            `Spill("dir", max_bytes=…)` or "spill(dir, 20 GiB)" (continue in files of that directory, up to 10 GiB
            by default; then block).
        expect_every_s: Seconds without a record after which the watchdog reports the edge; None: never.
    """

    capacity: int | None = attrs.field(default=None, validator=or_none(at_least(1)))
    capacity_bytes: int | None = attrs.field(default=None, validator=or_none(at_least(1)))
    when_full: Policy = attrs.field(default=Block(), converter=policy_of)
    expect_every_s: float | None = attrs.field(default=None, validator=or_none(seconds))

    def __repr__(self) -> str:
        default = PLAIN
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in attrs.fields(Edge)
            if getattr(self, field.name) != getattr(default, field.name)
        ]
        return f"edge({', '.join(changed)})"

    def __rrshift__(self, other: Joinable) -> Flow:
        return Flow.of(other) >> self


PLAIN = Edge()
"""The edge of a bare `>>`; the run may fuse the nodes that it joins."""


@checks_arguments
@attrs.frozen(eq=False, kw_only=True, field_transformer=numpy_scalars)
class Node:
    """One component in a pipeline, with its options. Nodes are compared by identity.

    Attributes:
        role: "source", "decoder", "processor" or "store".
        use: The name of a component ("npy", "penstock-npy:npy") or an import path ("my.module:function").
        settings: The component's settings, by name.
        given: The component itself, if the user passed one instead of a name; `use` is "" then.
        name: The name in messages and reports; None: derived from the component's name when the pipeline is made.
        workers: The number of workers.
        ordered: With several workers: whether records leave in the order in which they arrived.
        place: Where it works: in a "thread" of the run, or in a "process" of its own, one for each worker. Lists are
            sent there and back through shared memory (penstock-shm, Linux). A process that dies is restarted, and
            its unfinished records are processed again, as often as `retry` says, but at least twice.
        retry: How often a failed call is retried; None: 3 tries for a store, 1 for the others.
        on_error: The treatment of a record that failed for good.
        expect_every_s: Seconds without a record from a source, or without return from a call of another component,
            after which the watchdog reports the node; None: never for a source, 30 s for the others.
    """

    role: str = attrs.field(validator=one_of(*ROLES))
    use: str = ""
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    given: Any = None
    name: str | None = attrs.field(default=None, validator=or_none(validators.name))
    workers: int = attrs.field(default=1, validator=at_least(1))
    ordered: bool = attrs.field(default=True, validator=flag)
    place: Place = attrs.field(default="thread", validator=one_of("thread", "process"))
    retry: Retry | None = attrs.field(default=None, validator=or_none(of_class(Retry)))
    on_error: OnError = attrs.field(default="dead_letter", validator=one_of("stop", "skip", "dead_letter"))
    expect_every_s: float | None = attrs.field(default=None, validator=or_none(seconds))

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in attrs.fields(Node)
            if field.name in NODE_OPTIONS and getattr(self, field.name) != field.default
        ]
        what = repr(self.use) if self.use else f"<{label(self)}>"
        return f"{self.role}({', '.join([what, *(setting(*each) for each in self.settings.items()), *changed])})"

    def __rshift__(self, other: Follower | Edge) -> Flow:
        return Flow.of(self) >> other

    def __rrshift__(self, other: Joinable) -> Flow:
        return Flow.of(other) >> self


NODE_OPTIONS = tuple(
    field.name for field in attrs.fields(Node) if field.name not in ("role", "use", "settings", "given")
)
"""The keywords of `ps.source` and the like that are options of the node; no component has a setting of these names."""


@checks_arguments
@attrs.frozen(eq=False)
class Flow:
    """Nodes joined by `>>`. Frozen: joining returns a new flow, so that any flow can be the start of several.

    Attributes:
        nodes: All nodes, in the order in which they were joined.
        edges: The edges between them: (from, to, edge).
        tails: The nodes that the next `>>` joins to.
        pending: The edge that the next `>>` uses.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[Node, Node, Edge], ...]
    tails: tuple[Node, ...]
    pending: Edge | None = None

    @classmethod
    def of(cls, thing: Joinable) -> Flow:
        """Return a flow of an operand of `>>`: a flow, a node, a callable, an iterable, or several flows."""
        if isinstance(thing, Flow):
            return thing
        if isinstance(thing, Node):
            return cls((thing,), (), (thing,))
        if isinstance(thing, (tuple, list)) and thing and all(isinstance(part, (Node, Flow)) for part in thing):
            flows = [cls.of(part) for part in thing]
            if any(flow.pending for flow in flows):
                raise WiringError(
                    "an edge() ends a flow that is joined with others: put the edge after the joined flows"
                )
            return cls(
                tuple(dict.fromkeys(node for flow in flows for node in flow.nodes)),
                tuple(dict.fromkeys(edge for flow in flows for edge in flow.edges)),
                tuple(dict.fromkeys(tail for flow in flows for tail in flow.tails)),
            )
        if callable(thing):
            return cls.of(Node(role="processor", given=thing))
        if isinstance(thing, str):
            return cls.of(Node(role="source", use=thing))
        if isinstance(thing, Iterable):
            return cls.of(Node(role="source", given=thing))
        raise WiringError(
            f"{thing!r} cannot be joined by '>>': {_remedy_for(thing)}pass a node, a flow, a callable or an iterable"
        )

    def entries(self) -> tuple[Node, ...]:
        """Return the nodes without a predecessor in this flow."""
        fed = {after for _, after, _ in self.edges}
        return tuple(node for node in self.nodes if node not in fed)

    def __repr__(self) -> str:
        joins = [f"{_called(first)} >> {_called(after)}" for first, after, _ in self.edges]
        what = listed(joins or [_called(node) for node in self.nodes])
        return f"Flow({what}{f' >> {self.pending!r}' if self.pending else ''})"

    def __rshift__(self, other: Follower | Edge) -> Flow:
        if isinstance(other, Edge):
            if self.pending is not None:
                raise WiringError("two edge() in a row: pass all options to one edge()")
            return attrs.evolve(self, pending=other)
        if isinstance(other, str):
            raise WiringError(
                f"{other!r} is a name without a role: write ps.store({other!r}) or ps.processor({other!r})"
            )
        behind = Flow.of(other)
        if not all(node.role != "source" for node in behind.entries()):
            name = next(describe(node) for node in behind.entries() if node.role == "source")
            raise WiringError(f"{name} is a source and takes no records: put it first")
        for tail in self.tails:
            if tail.role == "store":
                raise WiringError(f"{describe(tail)} is a store and emits no records: nothing can follow it")
        edge = self.pending or PLAIN
        joined = tuple((tail, entry, edge) for tail in self.tails for entry in behind.entries())
        return Flow(
            tuple(dict.fromkeys(self.nodes + behind.nodes)),
            tuple(dict.fromkeys(self.edges + joined + behind.edges)),
            behind.tails,
            behind.pending,
        )

    def __rrshift__(self, other: Joinable) -> Flow:
        return Flow.of(other) >> self


def _remedy_for(thing: Any) -> str:
    """Return how to join an object that is known to be something else than an operand of `>>`, or ""."""
    kind = type(thing).__name__
    if isinstance(thing, Edge):
        return "an edge() stands between two nodes: begin with a source; else "
    if isinstance(thing, POLICIES):
        return f"write ps.edge(when_full=ps.{thing!r}); else "
    for role, method in (("store", "write"), ("source", "read"), ("decoder", "decode")):
        if callable(getattr(thing, method, None)):
            return f"write ps.{role}({kind}(...)); else "
    return ""


Follower = Node | Flow | Callable[..., Any] | Sequence["Node | Flow"]
"""The right operands of `>>`."""
Joinable = Follower | Iterable[Any]
"""The left operands of `>>`: an iterable is a source."""


def _called(node: Node) -> str:
    return node.name or label(node)


def describe(node: Node) -> str:
    """Return the name of this node for errors: "node 'archive'", or "store 'npy'" while it has no name."""
    return f"node {node.name!r}" if node.name else f"{node.role} {label(node)!r}"


def label(node: Node) -> str:
    """Return a short name for the component of a node: "npy", "flat_field", "NpyStore"."""
    if node.use:
        return node.use.rpartition(":")[2] if ":" in node.use else node.use
    given = node.given
    while isinstance(given, functools.partial):
        given = given.func
    name = getattr(given, "__name__", None) or type(given).__name__
    return cast("str", "lambda" if name == "<lambda>" else name)


def name_nodes(nodes: Iterable[Node], taken: Iterable[str] = ()) -> dict[Node, str]:
    """Assign each node a unique name: the one that the user set, or the component's, numbered if it is taken.

    Raises:
        WiringError: the user set the same name for two nodes.

    """
    names: dict[Node, str] = {}
    used = set(taken)
    for node in nodes:
        if node.name is not None:
            if node.name in used:
                raise WiringError(f"two nodes are called {node.name!r}: use unique names")
            used.add(node.name)
            names[node] = node.name
    for node in nodes:
        if node.name is None:
            base = label(node)
            tries = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
            names[node] = next(name for name in tries if name not in used)
            used.add(names[node])
    return names
