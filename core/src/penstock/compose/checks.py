"""Checks of a pipeline's wiring: all errors that can be found before anything opens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from penstock.compose.import_path import is_import_path
from penstock.compose.node import Edge, Node, describe
from penstock.compose.resolve import ResolvedNode, resolve
from penstock.errors import ConfigError, PluginError, WiringError
from penstock.link import link_classes
from penstock.processor import SupportsDeadline, SupportsRun

if TYPE_CHECKING:
    from penstock.plugins import Plugins

Joins = Iterable[tuple[str, str, Edge]]


def parts_of(
    nodes: Iterable[Node], joins: Joins, plugins: Plugins, *, import_paths: bool = True
) -> dict[str, ResolvedNode]:
    """Resolve every node and check the joins between them.

    Args:
        nodes: The nodes.
        joins: The joins between them.
        plugins: The plugins that offer components.
        import_paths: False skips the nodes that are named by an import path, so that no module of the user is imported.

    Raises:
        WiringError, ConfigError, PluginError: something is wrong; several problems are listed in one WiringError.
    """
    parts: dict[str, ResolvedNode] = {}
    errors: list[Exception] = []
    nodes, joins = list(nodes), list(joins)
    for node in nodes:
        if not import_paths and is_import_path(node.use):
            continue
        try:
            parts[node.name or ""] = resolve(node, plugins)
        except (PluginError, ConfigError, WiringError) as error:
            errors.append(error)
    problems = shape_problems(nodes, joins) + kind_problems(parts, joins) + option_problems(parts.values(), plugins)
    problems += sharing_problems(parts.values())
    if import_paths:
        problems += retry_problems(parts.values())
    if len(errors) == 1 and not problems:
        raise errors[0]
    problems = [str(error) for error in errors] + problems
    if problems:
        raise WiringError("; ".join(problems))
    return parts


def shape_problems(nodes: Iterable[Node], joins: Joins) -> list[str]:
    """Return the problems in the shape of the graph: loose ends, loops, an empty pipeline."""
    nodes, joins = list(nodes), list(joins)
    if not nodes:
        return ["the pipeline is empty: pass at least a source and a node that takes its records"]
    behind, before = neighbours(joins)
    problems = []
    for node in nodes:
        name = node.name or ""
        if node.role == "source" and not behind[name]:
            problems.append(f"{describe(node)}: nothing takes the records of this source")
        if node.role != "source" and not before[name]:
            problems.append(f"{describe(node)}: this {node.role} has no input: join a source to it with '>>'")
    loop = _loop(nodes, behind)
    if loop:
        problems.append(f"the nodes {' >> '.join(loop)} form a loop, in which records would circulate for ever")
    return problems


def kind_problems(parts: Mapping[str, ResolvedNode], joins: Joins) -> list[str]:
    """Return the joins where a component's output does not fit its neighbour's input."""
    problems = []
    for before, after, _ in joins:
        if before not in parts or after not in parts:
            continue
        gives, takes = parts[before].gives, parts[after].takes
        if "any" not in (gives, takes) and gives != takes:
            problems.append(
                f"{parts[before].where} gives {gives}, but {parts[after].where} takes {takes}: "
                "put a decoder or a processor between them"
            )
    return problems


def option_problems(parts: Iterable[ResolvedNode], plugins: Plugins) -> list[str]:
    """Return the nodes with options that their components do not support."""
    problems = []
    parts = list(parts)
    for part in parts:
        node = part.node
        if node.workers > 1:
            if node.role == "source":
                problems.append(
                    f"{part.where}: workers={node.workers}: a source is read by one thread; use several sources"
                )
            elif node.role == "store":
                problems.append(
                    f"{part.where}: workers={node.workers}: a store is written by one thread, to keep the order"
                )
            elif isinstance(part.sample, SupportsDeadline):
                problems.append(f"{part.where}: workers={node.workers}: it collects records over time; use 1")
        if node.place == "process":
            problems += _place_problems(part)
    elsewhere = [part for part in parts if part.node.place == "process"]
    if elsewhere:
        try:
            link_classes(plugins)
        except PluginError as error:
            problems += [f"{part.where}: place='process' needs a link between processes: {error}" for part in elsewhere]
    return problems


def retry_problems(parts: Iterable[ResolvedNode]) -> list[str]:
    """Return the import paths in `retry` that lead to no exception class; imports them."""
    problems = []
    for part in parts:
        try:
            if part.node.retry:
                part.node.retry.error_classes()
        except (PluginError, ConfigError) as error:
            problems.append(f"{part.where}: {error}")
    return problems


def sharing_problems(parts: Iterable[ResolvedNode]) -> list[str]:
    """Return the stateful objects that were passed to two nodes."""
    problems = []
    first: dict[int, ResolvedNode] = {}
    for part in parts:
        if part.own is not None and first.setdefault(id(part.own), part) is not part:
            problems.append(
                f"nodes {first[id(part.own)].node.name!r} and {part.node.name!r} have the same "
                f"{type(part.own).__qualname__}: one object cannot work in two nodes; pass two objects, or join "
                "both flows to one node"
            )
    return problems


def _place_problems(resolved: ResolvedNode) -> list[str]:
    """Return why a component cannot work in a process of its own."""
    if isinstance(resolved.sample, SupportsRun):
        return [f"{resolved.where}: place='process': it acts on the run, which is in this process: use a thread"]
    if not resolved.use and getattr(resolved.sample, "in_memory", False):
        return [
            f"{resolved.where}: place='process': its content would be in the memory of the other process, and the "
            "object in this one would stay empty: use a thread"
        ]
    from penstock.compose.by_value import why_not_sent  # imports cloudpickle, which threads do not need

    reason = why_not_sent(resolved.node)
    if reason:
        remedy = "acquire it in open(), which is called in the process, or use a thread"
        if resolved.node.role == "source" and not hasattr(resolved.node.given, "read") and not resolved.use:
            remedy = "pass a list, or a class with open(), read() and close(), or use a thread"
        return [f"{resolved.where}: place='process': {reason}; {remedy}"]
    return []


def neighbours(joins: Joins) -> tuple[defaultdict[str, list[str]], defaultdict[str, list[str]]]:
    """Return, by node name, the nodes behind it and the nodes before it."""
    behind: defaultdict[str, list[str]] = defaultdict(list)
    before: defaultdict[str, list[str]] = defaultdict(list)
    for first, second, _ in joins:
        behind[first].append(second)
        before[second].append(first)
    return behind, before


def _loop(nodes: Iterable[Node], behind: Mapping[str, list[str]]) -> list[str]:
    done: set[str] = set()
    for node in nodes:
        path: list[str] = []
        stack = [(node.name or "", 0)]
        while stack:
            name, depth = stack.pop()
            del path[depth:]
            if name in path:
                return [*path[path.index(name) :], name]
            if name in done:
                continue
            path.append(name)
            children = behind.get(name, [])
            if not children:
                done.add(name)
            stack.extend((child, depth + 1) for child in children)
        done.update(path)
    return []
