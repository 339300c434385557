"""component_node: how the component that a user passes, with its settings, becomes a node."""

from __future__ import annotations

import os
from typing import Any

from penstock.compose.node import NODE_OPTIONS, Node
from penstock.errors import ConfigError, WiringError
from penstock.suggestions import close_to


def component_node(role: str, component: Any, settings: dict[str, Any], **options: Any) -> Node:
    """Return the node of a component: a name with settings, an object, a class or a factory, or an iterable.

    Raises:
        ConfigError: an option is wrong, or settings were passed with an object that has its own.
        WiringError: it is a class, where only an instance or a name is possible.
    """
    if isinstance(component, str):
        return Node(role=role, use=component, settings=_plain(settings), **options)
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
        and not hasattr(component, "read")
    ):
        return Node(role=role, given=component, settings=settings, **options)  # an iterable
    if settings:
        known = [*NODE_OPTIONS, *(("channel", "reuses_buffers") if role == "source" else ())]
        near = next(filter(None, (close_to(key, known) for key in settings)), "")
        raise ConfigError(
            f"{role} {type(component).__name__}: the settings {', '.join(settings)} belong to the component that you "
            f"passed: set them there{near}"
        )
    if role == "store" and callable(getattr(component, "get_data", None)) and not hasattr(component, "write"):
        from penstock.builtin.data_storage import as_store

        component = as_store(component)
    return Node(role=role, given=component, **options)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in settings.items()}
