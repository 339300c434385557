"""A graph as plain data and back: the content of pipeline files, and of messages to a control channel."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from penstock.component import ROLES
from penstock.compose.address import address_of, why_no_address
from penstock.compose.node import NODE_OPTIONS, PLAIN, Edge, Flow, Node, describe, label
from penstock.compose.policies import Policy
from penstock.compose.retry import Retry
from penstock.errors import ConfigError, WiringError
from penstock.suggestions import close_to

_INDEX = re.compile(r"\$\.(nodes|edges)\[(\d+)\]")

FORMAT = 1
"""The number of the file format, under the key `penstock`."""

DEAD_LETTERS = "penstock-dead-letters"


def _entries(options: type, *, without: Iterable[str] = ()) -> dict[str, Any]:
    """Return the fields of a class as fields of an entry in a file, with the types that its converters accept."""
    attrs.resolve_types(options)
    return {
        field.name: attrs.field(type=_type_in_files(field), default=field.default)
        for field in attrs.fields(options)
        if field.name not in without
    }


def _type_in_files(field: attrs.Attribute[Any]) -> Any:
    taken = typing.get_type_hints(field.converter) if field.converter else {}
    return next(iter(taken.values()), field.type)


_OPTIONAL_TEXT: Any = str | None
_ROLES = {role: attrs.field(type=_OPTIONAL_TEXT, default=None) for role in ROLES}


@attrs.frozen(
    kw_only=True,
    these={
        "name": attrs.field(type=str),
        **_ROLES,
        "settings": attrs.field(type=dict[str, Any], factory=dict),
        **_entries(Node, without=("name", "role", "use", "given", "settings")),
    },
)
class NodeEntry:
    """A node in a file: a component under the key of its role, its settings, and the options of `Node`."""

    def node(self, path: str) -> Node:
        """Make the node. Raises ConfigError, which begins with the path."""
        roles = {role: use for role in ROLES if (use := getattr(self, role))}
        options = {name: getattr(self, name) for name in NODE_OPTIONS}
        settings: dict[str, Any] = getattr(self, "settings")  # noqa: B009 - mypy does not see the field
        if len(roles) != 1:
            raise ConfigError(f"{path}: node {options['name']!r} needs exactly one of {', '.join(ROLES)}")
        [(role, use)] = roles.items()
        try:
            return Node(role=role, use=use, settings=settings, **options)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


@attrs.frozen(kw_only=True, these={"before": attrs.field(type=str), "after": attrs.field(type=str), **_entries(Edge)})
class EdgeEntry:
    """An edge in a file: the names of two nodes, and the options of `Edge`."""

    if TYPE_CHECKING:
        before: str
        after: str

    def edge(self, path: str) -> Edge:
        """Make the edge. Raises ConfigError, which begins with the path."""
        try:
            return Edge(**{field.name: getattr(self, field.name) for field in attrs.fields(Edge)})
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


@attrs.frozen(kw_only=True)
class GraphFile:
    """A file."""

    penstock: int = FORMAT
    name: str = "pipeline"
    checkpoint_every_s: float = 1.0
    dead_letters: str = DEAD_LETTERS
    nodes: list[NodeEntry]
    edges: list[EdgeEntry] = attrs.field(factory=list)


@contextmanager
def names_in_errors(plain: Any) -> Iterator[None]:
    """Add the name of the node, or those of an edge, to each line of a ConfigError that has only their index."""
    try:
        yield
    except ConfigError as error:
        lines = [f"{line}{_named(line, plain)}" for line in str(error).splitlines()]
        raise ConfigError("\n".join(lines)) from error


def _named(line: str, plain: Any) -> str:
    found = _INDEX.match(line)
    if not found:
        return ""
    try:
        entry = plain[found[1]][int(found[2])]
        said = f"node {entry['name']!r}" if found[1] == "nodes" else f"edge {entry['before']!r} >> {entry['after']!r}"
    except (LookupError, TypeError):  # it is not the list of mappings that it should be
        return ""
    return "" if said in line else f" ({said})"


def flow_from_plain(plain: Mapping[str, Any], running: Iterable[str], node: Callable[[str], Node]) -> Flow:
    """Make a flow from plain data whose edges may also name running nodes. Raises ConfigError."""
    from penstock.config import from_plain

    with names_in_errors(plain):
        file: GraphFile = from_plain(GraphFile, dict(plain))
        wanted = {name for join in file.edges for name in (join.before, join.after)}
        return flow_of(file, {name: node(name) for name in running if name in wanted})


def flow_of(file: GraphFile, running: Mapping[str, Node]) -> Flow:
    """Make a flow from a file's content; its edges may also name the running nodes. Raises ConfigError."""
    nodes: dict[str, Node] = dict(running)
    for index, entry in enumerate(file.nodes):
        node = entry.node(f"$.nodes[{index}]")
        if node.name in nodes:
            raise ConfigError(f"$.nodes[{index}].name: two nodes are called {node.name!r}: use unique names")
        nodes[node.name or ""] = node
    edges = []
    for index, join in enumerate(file.edges):
        for end, name in (("before", join.before), ("after", join.after)):
            if name not in nodes:
                raise ConfigError(f"$.edges[{index}].{end}: no node {name!r}{close_to(name, nodes)}")
        edges.append((nodes[join.before], nodes[join.after], join.edge(f"$.edges[{index}]")))
    return Flow(tuple(nodes.values()), tuple(edges), ())


def _changed(value: Any, default: Any) -> dict[str, Any]:
    """Return the fields of an attrs object that differ from those of another, as plain data."""
    from penstock.config import to_plain

    return {
        field.name: to_plain(getattr(value, field.name))
        for field in attrs.fields(type(value))
        if getattr(value, field.name) != getattr(default, field.name)
    }


def edge_to_plain(first: str, second: str, edge: Edge) -> dict[str, Any]:
    """Return an edge as an entry in a file."""
    plain = {"before": first, "after": second, **_changed(edge, PLAIN)}
    if "when_full" in plain:
        plain["when_full"] = _policy_to_plain(edge.when_full)
    return plain


def _policy_to_plain(policy: Policy) -> str | dict[str, Any]:
    """Return a table with the name of a policy and its options, or its word if it has no options."""
    from penstock.config import to_plain

    return {"type": type(policy).__name__, **to_plain(policy)} if attrs.fields(type(policy)) else policy.word


def node_to_plain(node: Node) -> dict[str, Any]:
    """Return a node as an entry in a file. Raises WiringError for a component that no file can name (a lambda)."""
    from penstock.config import to_plain

    use, settings = (node.use, dict(node.settings)) if node.use else _use_of(node)
    plain: dict[str, Any] = {"name": node.name, node.role: use}
    if settings:
        plain["settings"] = to_plain(settings)
    default = Node(role=node.role)
    for key in NODE_OPTIONS[1:]:
        value = getattr(node, key)
        if value != getattr(default, key):
            plain[key] = _retry_to_plain(node, value) if isinstance(value, Retry) else value
    return plain


def _retry_to_plain(node: Node, retry: Retry) -> dict[str, Any]:
    plain = {key: value for key, value in attrs.asdict(retry).items() if value != getattr(Retry(), key)}
    if "on" in plain:
        try:
            plain["on"] = retry.error_names()
        except WiringError as error:
            raise WiringError(f"{describe(node)}: {error}") from error
    return plain


def _plain_settings(node: Node, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a given component as plain data, from which its class makes the same ones."""
    from penstock.config import from_plain, to_plain
    from penstock.config.annotations import type_hints
    from penstock.config.same import difference

    if not settings:
        return {}
    cls: Any = node.given if isinstance(node.given, type) else type(node.given)
    where = f"{describe(node)}: its settings cannot be written to a file"
    if attrs.has(cls):
        names = {field.alias or field.name: field.name for field in attrs.fields(cls)}
    elif dataclasses.is_dataclass(cls):
        names = {field.name: field.name for field in dataclasses.fields(cls)}
    else:  # a function or another class: the types of its arguments are unknown
        try:
            return {key: to_plain(value, path=f"$.{key}") for key, value in settings.items()}
        except ConfigError as error:
            raise WiringError(f"{where}: {error}") from error
    hints = type_hints(cls)
    try:
        plain = {
            key: to_plain(value, annotation=hints.get(names[key]), path=f"$.{key}") for key, value in settings.items()
        }
        made: Any = from_plain(cls, {names[key]: value for key, value in plain.items()})
        # A str passed for a Path is read back as a Path, as for a component that is named.
        meant: Any = from_plain(cls, {names[key]: value for key, value in settings.items()})
        wrong = [difference(getattr(meant, names[key]), getattr(made, names[key]), f"$.{key}") for key in settings]
    except ConfigError as error:
        raise WiringError(f"{where}: {error}") from error
    for said in filter(None, wrong):
        raise WiringError(f"{where}: {said}; annotate the field with its type")
    return plain


def _use_of(node: Node) -> tuple[str, dict[str, Any]]:
    """Return the name and settings with which a component that was given as an object can be written to a file."""
    address = address_of(node.given)
    if address is None:
        raise WiringError(
            f"{describe(node)}: {label(node)!r} cannot be written to a file or sent to another machine: "
            f"{why_no_address(node.given)}; define a function or a class in a module, and name it: "
            f"ps.{node.role}('module:Class', ...)"
        )
    path, settings = address
    settings = _plain_settings(node, {**settings, **node.settings})
    from penstock.plugins import Plugins

    for offer in Plugins.discover().components(node.role):
        if offer.component.path == path:
            return offer.component.name, settings
    return path, settings
