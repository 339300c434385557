"""component_node: makes a node of the component and the settings that a user passes."""

from __future__ import annotations

import os
from typing import Any

from penstock.compose.node import NODE_OPTIONS, Node, label
from penstock.errors import ConfigError, UnknownOptionError, WiringError
from penstock.suggestions import close_to


def component_node(role: str, component: Any, settings: dict[str, Any], **options: Any) -> Node:
    """Return the node of a component: a name with settings, an object, a class or a factory, or an iterable.

    Raises:
        ConfigError: an option is wrong, or settings were passed with an object that has its own.
        WiringError: it is a class, where only an instance or a name is possible.
    """
    if isinstance(component, str):
        if not component:
            raise ConfigError(f"ps.{role}(''): the name of the component is empty; `penstock plugins` lists them")
        return Node(role=role, use=component, settings=_plain(settings), **options)
    if isinstance(component, Node):
        raise WiringError(
            f"ps.{role}({component!r}): is a node already: join it as it is, with options where it is made"
        )
    if isinstance(component, type):
        if role in ("source", "store"):
            raise WiringError(
                f"{component.__name__} is a class: pass an instance, {component.__name__}(...), or a name"
            )
        return Node(role=role, given=component, settings=settings, **options)
    if (
        role == "source"
        and settings
        and settings.keys() <= {"channel", "reuses_buffers"}
        and not callable(getattr(component, "open", None))
    ):
        return Node(role=role, given=component, settings=settings, **options)  # an iterable
    if settings:
        known = [*NODE_OPTIONS, *(("channel", "reuses_buffers") if role == "source" else ())]
        named = "; nor ".join(f"{key!r}{close_to(key, known)}" for key in settings)
        raise UnknownOptionError(
            f"ps.{role}({label(Node(role=role, given=component))}) has no option {named}; an object that you pass has "
            "its own settings: pass them where you make it"
        )
    if role == "store" and callable(getattr(component, "get_data", None)) and not hasattr(component, "write"):
        from penstock.builtin.data_storage import as_store

        component = as_store(component)
    return Node(role=role, given=component, **options)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in settings.items()}
