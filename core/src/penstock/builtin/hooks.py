"""What penstock itself offers."""

from __future__ import annotations

from penstock.component import Component
from penstock.hookspecs import hookimpl


@hookimpl
def penstock_sources() -> list[Component]:
    """Offer what can be read without any plugin."""
    return [
        Component("iterable", "penstock.builtin.iterable:IterableSource", summary="items of a Python iterable"),
    ]


@hookimpl
def penstock_stores() -> list[Component]:
    """Offer what can be kept without any plugin."""
    return [
        Component("memory", "penstock.builtin.memory:MemoryStore", summary="a dict in this process"),
        Component("null", "penstock.builtin.memory:NullStore", summary="keeps nothing"),
    ]
