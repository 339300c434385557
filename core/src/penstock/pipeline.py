"""Pipeline: a graph of components as pure data, until it runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from penstock.errors import ConfigError, WiringError
from penstock.node import NODE_OPTIONS, PLAIN, Edge, Flow, Joinable, Node, Retry, describe, label
from penstock.part import Part, path_of
from penstock.wiring import close_to, parts_of, shape_problems

if TYPE_CHECKING:
    from penstock.plugins import Plugins
    from penstock.run.report import RunReport
    from penstock.run.run import Run

FORMAT = 1
"""The number of the file format, under the key `penstock`."""

DEAD_LETTERS = "penstock-dead-letters"


class Pipeline:
    """A graph of components. As long as it does not run it is data: print, compare, draw, export, pickle it.

    Args:
        flows: What `>>` joined. Flows that share nodes (the same objects) are joined there.
        name: What reports and dead letters call it.
        checkpoint_every_s: Seconds between two checkpoints. What came after the last one is asked for again after a
            crash, where the source can.
        dead_letters: The directory under which a run keeps records that failed for good; made when first needed.
    """

    def __init__(
        self,
        *flows: Joinable,
        name: str = "pipeline",
        checkpoint_every_s: float = 1.0,
        dead_letters: str | Path = DEAD_LETTERS,
    ) -> None:
        if isinstance(checkpoint_every_s, bool) or not isinstance(checkpoint_every_s, (int, float)):
            raise ConfigError(f"checkpoint_every_s={checkpoint_every_s!r}: must be a number of seconds above 0")
        if not checkpoint_every_s > 0:
            raise ConfigError(f"checkpoint_every_s={checkpoint_every_s!r}: must be above 0")
        joined = [Flow.of(flow) for flow in flows]
        for flow in joined:
            if flow.pending is not None:
                raise WiringError("a flow ends with edge(): put what takes the records behind it")
        nodes = dict.fromkeys(node for flow in joined for node in flow.nodes)
        self.name = name
        self.checkpoint_every_s = float(checkpoint_every_s)
        self.dead_letters = str(dead_letters)
        self.names = name_nodes(nodes)
        self.nodes: tuple[Node, ...] = tuple(attrs.evolve(node, name=self.names[node]) for node in nodes)
        joins = dict.fromkeys(edge for flow in joined for edge in flow.edges)
        self.edges: tuple[tuple[str, str, Edge], ...] = tuple(
            (self.names[first], self.names[second], edge) for first, second, edge in joins
        )
        twice = [pair for pair in self.edges if sum(pair[:2] == other[:2] for other in self.edges) > 1]
        if twice:
            raise WiringError(f"{twice[0][0]!r} and {twice[0][1]!r} are joined twice, by different edges")

    def name_of(self, node: Node | str) -> str:
        """Return the name that a node has in this pipeline. Raises WiringError if it is not in it."""
        if isinstance(node, Node):
            if node in self.names:
                return self.names[node]
            if node in self.nodes:
                return node.name or ""
        elif any(own.name == node for own in self.nodes):
            return node
        name = node if isinstance(node, str) else label(node)
        known = [own.name or "" for own in self.nodes]
        raise WiringError(
            f"no node {name!r} in pipeline {self.name!r}{close_to(name, known)}; it has {', '.join(known)}"
        )

    def flow(self) -> Flow:
        """Return the whole graph as one flow."""
        by_name = {node.name: node for node in self.nodes}
        return Flow(self.nodes, tuple((by_name[a], by_name[b], edge) for a, b, edge in self.edges), ())

    def check(self, plugins: Plugins | None = None) -> None:
        """Check everything that can be checked without opening anything.

        Raises:
            WiringError, ConfigError, PluginError: what is wrong, and what to do.
        """
        self.parts(plugins)

    def parts(self, plugins: Plugins | None = None) -> dict[str, Part]:
        """Resolve the nodes, by name; raises as `check` does."""
        return parts_of(self.nodes, self.edges, plugins or _discover())

    def run(self, *, progress: bool = False, plugins: Plugins | None = None) -> RunReport:
        """Run until every source has ended, and return the report. SIGINT and SIGTERM drain; a second one aborts.

        Args:
            progress: Show live figures on the terminal (stderr).
            plugins: Where components are found; None: whatever is installed.

        Raises:
            WiringError, ConfigError, PluginError: before anything opens.
            RunError: a component could not be opened; all others have been closed again.
        """
        from penstock.run.foreground import run_in_foreground

        return run_in_foreground(self, progress=progress, plugins=plugins or _discover())

    def start(self, *, plugins: Plugins | None = None) -> Run:
        """Open everything, start, and return the run; use it in `with`, which drains it. Raises as `run` does."""
        from penstock.run.run import Run

        return Run.start(self, plugins=plugins or _discover())

    # -- as data ---------------------------------------------------------------------------------------------------

    def to_plain(self) -> dict[str, Any]:
        """Return the pipeline as plain data. Raises WiringError for a component that no file can name (a lambda)."""
        plain: dict[str, Any] = {"penstock": FORMAT, "name": self.name}
        if self.checkpoint_every_s != 1.0:
            plain["checkpoint_every_s"] = self.checkpoint_every_s
        if self.dead_letters != DEAD_LETTERS:
            plain["dead_letters"] = self.dead_letters
        plain["nodes"] = [_node_to_plain(node) for node in self.nodes]
        plain["edges"] = [
            {"before": first, "after": second, **_changed(edge, PLAIN)} for first, second, edge in self.edges
        ]
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Pipeline:
        """Make a pipeline of plain data. Raises ConfigError with the path of what is wrong (`$.nodes[1].workers`)."""
        from penstock.config import from_plain

        file: _File = from_plain(_File, dict(plain))
        if file.penstock != FORMAT:
            raise ConfigError(f"$.penstock: format {file.penstock} is unknown; this penstock reads {FORMAT}")
        flow = _flow(file, {})
        return cls(flow, name=file.name, checkpoint_every_s=file.checkpoint_every_s, dead_letters=file.dead_letters)

    def write(self, path: str | Path) -> None:
        """Write the pipeline to a .toml, .yaml, .yml or .json file, whole or not at all."""
        from penstock.config import write_config

        write_config(Path(path), self.to_plain())

    @classmethod
    def read(cls, path: str | Path) -> Pipeline:
        """Read a pipeline from a .toml, .yaml, .yml or .json file. Raises ConfigError, which names the file."""
        from penstock.config import read_config

        plain = read_config(Path(path))
        try:
            return cls.from_plain(plain)
        except (ConfigError, WiringError) as error:
            raise type(error)(f"{path}: {error}") from error

    def to_toml(self) -> str:
        """Return the pipeline as TOML."""
        import tomli_w

        return tomli_w.dumps(_without_none(self.to_plain()))

    @classmethod
    def from_toml(cls, text: str) -> Pipeline:
        """Make a pipeline of TOML. Raises ConfigError."""
        import tomllib

        try:
            return cls.from_plain(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"not TOML: {error}") from error

    def problems(self) -> list[str]:
        """Return what is wrong with the shape of the graph, without looking for any component."""
        return shape_problems(self.nodes, self.edges)

    def to_mermaid(self) -> str:
        """Return the graph as a mermaid flowchart."""
        from penstock.drawing import to_mermaid

        return to_mermaid(self)

    def to_svg(self) -> str:
        """Return the graph as an SVG picture."""
        from penstock.drawing import to_svg

        return to_svg(self)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def __repr__(self) -> str:
        joins = ", ".join(f"{first} >> {second}" for first, second, _ in self.edges)
        return f"Pipeline({self.name!r}: {joins or ', '.join(node.name or '' for node in self.nodes)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pipeline):
            return NotImplemented
        return self is other or self.to_plain() == other.to_plain()

    __hash__ = None  # type: ignore[assignment]  # equal pipelines may be changed objects: not for keys

    def __reduce__(self) -> tuple[Any, ...]:
        return Pipeline.from_plain, (self.to_plain(),)


@attrs.frozen(kw_only=True)
class _NodeEntry:
    name: str
    source: str | None = None
    decoder: str | None = None
    processor: str | None = None
    store: str | None = None
    settings: dict[str, Any] = attrs.field(factory=dict)
    workers: int = 1
    ordered: bool = True
    place: str = "thread"
    retry: Retry | None = None
    on_error: str = "dead_letter"
    expect_every_s: float | None = None

    def node(self, path: str) -> Node:
        roles = {role: use for role in ("source", "decoder", "processor", "store") if (use := getattr(self, role))}
        if len(roles) != 1:
            raise ConfigError(f"{path}: node {self.name!r} needs exactly one of source, decoder, processor, store")
        [(role, use)] = roles.items()
        options = {key: getattr(self, key) for key in NODE_OPTIONS}
        try:
            return Node(role=role, use=use, settings=self.settings, **options)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


@attrs.frozen(kw_only=True)
class _EdgeEntry:
    before: str
    after: str
    capacity: int | None = None
    capacity_bytes: int | None = None
    when_full: str = "block"
    expect_every_s: float | None = None

    def edge(self) -> Edge:
        return Edge(**{field.name: getattr(self, field.name) for field in attrs.fields(Edge)})


@attrs.frozen(kw_only=True)
class _File:
    penstock: int = FORMAT
    name: str = "pipeline"
    checkpoint_every_s: float = 1.0
    dead_letters: str = DEAD_LETTERS
    nodes: list[_NodeEntry]
    edges: list[_EdgeEntry] = attrs.field(factory=list)


def flow_from_plain(plain: Mapping[str, Any], running: Iterable[str], node: Callable[[str], Node]) -> Flow:
    """Make a flow of plain data whose edges may also name nodes that run. Raises ConfigError."""
    from penstock.config import from_plain

    file: _File = from_plain(_File, dict(plain))
    wanted = {name for join in file.edges for name in (join.before, join.after)}
    return _flow(file, {name: node(name) for name in running if name in wanted})


def _flow(file: _File, running: Mapping[str, Node]) -> Flow:
    nodes: dict[str, Node] = dict(running)
    for index, entry in enumerate(file.nodes):
        node = entry.node(f"$.nodes[{index}]")
        if node.name in nodes:
            raise ConfigError(f"$.nodes[{index}].name: two nodes are called {node.name!r}: give each its own")
        nodes[node.name or ""] = node
    edges = []
    for index, join in enumerate(file.edges):
        for end, name in (("before", join.before), ("after", join.after)):
            if name not in nodes:
                raise ConfigError(f"$.edges[{index}].{end}: no node {name!r}{close_to(name, nodes)}")
        edges.append((nodes[join.before], nodes[join.after], join.edge()))
    return Flow(tuple(nodes.values()), tuple(edges), ())


def name_nodes(nodes: Iterable[Node], taken: Iterable[str] = ()) -> dict[Node, str]:
    """Give every node a name of its own: the one that the user gave, or the component's, numbered if it is taken.

    Raises:
        WiringError: the user gave two nodes the same name.
    """
    names: dict[Node, str] = {}
    used = set(taken)
    for node in nodes:
        if node.name is not None:
            if node.name in used:
                raise WiringError(f"two nodes are called {node.name!r}: give each a name of its own")
            used.add(node.name)
            names[node] = node.name
    for node in nodes:
        if node.name is None:
            base = label(node)
            tries = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
            names[node] = next(name for name in tries if name not in used)
            used.add(names[node])
    return names


def _discover() -> Plugins:
    from penstock.plugins import Plugins

    return Plugins.discover()


def _changed(value: Any, default: Any) -> dict[str, Any]:
    """Return the fields of an attrs object that differ from those of another, as plain data."""
    from penstock.config import to_plain

    return {
        field.name: to_plain(getattr(value, field.name))
        for field in attrs.fields(type(value))
        if getattr(value, field.name) != getattr(default, field.name)
    }


def _node_to_plain(node: Node) -> dict[str, Any]:
    from penstock.config import to_plain

    use, settings = (node.use, dict(node.settings)) if node.use else _use_of(node)
    plain: dict[str, Any] = {"name": node.name, node.role: use}
    if settings:
        plain["settings"] = to_plain(settings)
    default = Node(role=node.role)
    for key in NODE_OPTIONS[1:]:
        value = getattr(node, key)
        if value != getattr(default, key):
            plain[key] = _changed(value, Retry()) if isinstance(value, Retry) else value
    return plain


def _use_of(node: Node) -> tuple[str, dict[str, Any]]:
    """Return the name and settings with which a component that was given as an object can be written to a file."""
    given = node.given
    path = path_of(given)
    component = attrs.has(type(given))
    if path is None or (not component and not hasattr(given, "__qualname__")):
        raise WiringError(
            f"{describe(node)}: {label(node)!r} cannot be written to a file or sent to another process: define it in "
            "a module, outside of functions and __main__, or name a component"
        )
    settings = {}
    if component:
        for field in attrs.fields(type(given)):
            if field.init and getattr(given, field.name) != _default(field, given):
                settings[field.alias or field.name] = getattr(given, field.name)
    for offer in _discover().components(node.role):
        if offer.component.path == path:
            return offer.component.name, settings
    return path, settings


def _default(field: attrs.Attribute[Any], given: Any) -> Any:
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # attrs.Factory is a class at run time
        return default.factory(given) if default.takes_self else default.factory()
    return default


def _without_none(value: Any) -> Any:
    """Leave out what is None: TOML has no word for it."""
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_none(part) for part in value]
    return value
