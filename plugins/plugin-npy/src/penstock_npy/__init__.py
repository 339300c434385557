"""Stores of files for penstock, and a logger for many processes. Names are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock_npy.archive_reader import LogArchiveReader, LogMessage
    from penstock_npy.compress import Compressed, compress_npy_logs
    from penstock_npy.data_logger import DataLogger
    from penstock_npy.json_store import JsonStore
    from penstock_npy.log_package import LogPackage
    from penstock_npy.log_source import NpyLogSource
    from penstock_npy.log_store import NpyLogStore
    from penstock_npy.logger_queue import LoggerFullError, LoggerQueue
    from penstock_npy.replay.source import NpyFilesSource
    from penstock_npy.stack_store import NpyStackStore
    from penstock_npy.store import NpyStore

__all__ = [
    "Compressed",
    "DataLogger",
    "JsonStore",
    "LogArchiveReader",
    "LogMessage",
    "LogPackage",
    "LoggerFullError",
    "LoggerQueue",
    "NpyFilesSource",
    "NpyLogSource",
    "NpyLogStore",
    "NpyStackStore",
    "NpyStore",
    "compress_npy_logs",
]

_MODULES = {
    "Compressed": "compress",
    "DataLogger": "data_logger",
    "JsonStore": "json_store",
    "LogArchiveReader": "archive_reader",
    "LogMessage": "archive_reader",
    "LogPackage": "log_package",
    "LoggerFullError": "logger_queue",
    "LoggerQueue": "logger_queue",
    "NpyFilesSource": "replay.source",
    "NpyLogSource": "log_source",
    "NpyLogStore": "log_store",
    "NpyStackStore": "stack_store",
    "NpyStore": "store",
    "compress_npy_logs": "compress",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}")
    import importlib

    return getattr(importlib.import_module(f"penstock_npy.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
