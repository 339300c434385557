"""LMDB for penstock: a store of records, their replay, and a store of objects. Imported when asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock_lmdb.store import LmdbRecordStore
    from penstock_lmdb.store import LmdbRecordStore as LmdbStore

_HOMES = {"LmdbRecordStore": "store", "LmdbStore": "store"}

__all__ = ["LmdbRecordStore", "LmdbStore"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
