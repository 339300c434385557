"""Stores for penstock: each record a `.npy` or a `.json` file. The stores are imported when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock_npy.json_store import JsonStore
    from penstock_npy.store import NpyStore

__all__ = ["JsonStore", "NpyStore"]


def __getattr__(name: str) -> Any:
    if name == "NpyStore":
        from penstock_npy.store import NpyStore

        return NpyStore
    if name == "JsonStore":
        from penstock_npy.json_store import JsonStore

        return JsonStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}")
