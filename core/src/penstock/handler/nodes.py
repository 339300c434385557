"""The nodes of a handler's pipeline: the user's nodes, with wrapped components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import attrs

from penstock.builtin.push import PushSource
from penstock.compose.node import Node, label
from penstock.compose.resolve import ResolvedNode, resolve
from penstock.errors import ConfigError, WiringError
from penstock.plugins import Plugins
from penstock.short_text import short


@attrs.define(kw_only=True)
class PutSource(PushSource):
    """A push source into which only a handler puts: its records need no further check."""

    exact_fields: ClassVar[bool] = True


def put_source(name: str, **settings: Any) -> PutSource:
    """Return the source of a handler of this name. Raises ConfigError."""
    try:
        return PutSource(channel=name, **settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"handler {name!r}: {error.args[0]}") from error


def resolved(argument: str, thing: Any, make: Callable[[Any], Node], plugins: Plugins) -> ResolvedNode:
    """Return the resolved node for a user's argument.

    Raises:
        WiringError: it cannot be a component of this role.
        ConfigError: a handler cannot track it.
    """
    try:
        return resolve(node_of(thing, make), plugins)
    except WiringError as error:
        raise type(error)(f"{argument}={short(thing)}: {error}") from error


def node_of(thing: Any, make: Callable[[Any], Node]) -> Node:
    """Return the node for a user's argument. Raises ConfigError if a handler cannot track it."""
    node = thing if isinstance(thing, Node) else make(thing)
    if node.place == "process":
        raise ConfigError(
            f"{node.role} {label(node)!r}: place='process': a handler tracks each call, so its processor and its "
            "store must work in threads; use a Pipeline with ps.source(PushSource()) for processes"
        )
    if node.on_error == "skip":
        raise ConfigError(
            f"{node.role} {label(node)!r}: on_error='skip' would leave waiters hanging; remove it, "
            "so that failed records go to the dead letters"
        )
    return node


def instead(resolved: ResolvedNode, component: Any) -> Node:
    """Return the node with a wrapped component in place of its own, under the same name."""
    return attrs.evolve(
        resolved.node, use="", settings={}, given=component, name=resolved.node.name or label(resolved.node)
    )
