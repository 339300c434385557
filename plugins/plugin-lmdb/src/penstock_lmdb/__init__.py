"""LMDB for penstock: a store of records, their replay, and a store of objects. Names are imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.codec.encoders import Encoder
    from penstock.errors import CannotConnectToStoreError
    from penstock_lmdb.errors import CannotConnectToStoreInterfaceError, CannotGetObjectError, ObjectNotFoundError
    from penstock_lmdb.object_value import LMDBData
    from penstock_lmdb.objects import LMDBStore
    from penstock_lmdb.objects import LMDBStore as LMDBStoreInterface
    from penstock_lmdb.objects import LMDBStore as StoreInterface
    from penstock_lmdb.source import LmdbSource
    from penstock_lmdb.store import LmdbRecordStore
    from penstock_lmdb.store import LmdbRecordStore as LmdbStore

_HOMES = {
    "CannotConnectToStoreError": ("penstock.errors", "CannotConnectToStoreError"),
    "CannotConnectToStoreInterfaceError": ("penstock_lmdb.errors", "CannotConnectToStoreInterfaceError"),
    "CannotGetObjectError": ("penstock_lmdb.errors", "CannotGetObjectError"),
    "Encoder": ("penstock.codec.encoders", "Encoder"),
    "LMDBData": ("penstock_lmdb.object_value", "LMDBData"),
    "LMDBStore": ("penstock_lmdb.objects", "LMDBStore"),
    "LMDBStoreInterface": ("penstock_lmdb.objects", "LMDBStore"),
    "LmdbRecordStore": ("penstock_lmdb.store", "LmdbRecordStore"),
    "LmdbSource": ("penstock_lmdb.source", "LmdbSource"),
    "LmdbStore": ("penstock_lmdb.store", "LmdbRecordStore"),
    "ObjectNotFoundError": ("penstock_lmdb.errors", "ObjectNotFoundError"),
    "StoreInterface": ("penstock_lmdb.objects", "LMDBStore"),
}

__all__ = [
    "CannotConnectToStoreError",
    "CannotConnectToStoreInterfaceError",
    "CannotGetObjectError",
    "Encoder",
    "LMDBData",
    "LMDBStore",
    "LMDBStoreInterface",
    "LmdbRecordStore",
    "LmdbSource",
    "LmdbStore",
    "ObjectNotFoundError",
    "StoreInterface",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}")
    home, its_name = _HOMES[name]
    return getattr(importlib.import_module(home), its_name)


def __dir__() -> list[str]:
    return __all__
