"""The lmdb store for penstock: records by key in one LMDB file. It is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock_lmdb.store import LmdbStore

__all__ = ["LmdbStore"]


def __getattr__(name: str) -> Any:
    if name == "LmdbStore":
        from penstock_lmdb.store import LmdbStore

        return LmdbStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}")
