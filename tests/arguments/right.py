"""Right values of required arguments, so that a test can give one wrong one among them."""

from __future__ import annotations

from typing import Any

import penstock as ps
from penstock.report.account import Account
from penstock.testing import FakeSource
from penstock_kafka_av import Comux


def right_arguments(call: str, names: list[str]) -> dict[str, Any]:
    """Return right values for arguments of a call, which is named by package and name ("penstock.Edge").

    Raises:
        KeyError: a new public name has an argument that this table does not know: add it.
    """
    own = _OWN.get(call, _OWN.get(call.rpartition(".")[2], {}))
    return {**own, **{name: (own[name] if name in own else _EVERYWHERE[name]) for name in names}}


def _three(coords: Any, data: Any, metadata: Any) -> tuple[Any, Any, Any]:
    return coords, data, metadata


_SERVERS = {"bootstrap_servers": "127.0.0.1:9"}
_EVERYWHERE: dict[str, Any] = {
    "archive_path": "a.npz",
    "channel_name": "c",
    "data": b"",
    "directory": "d",
    "kind": "array",
    "name": "n",
    "path": "p",
    "source_id": 1,
    "timestamp": 1,
    "topic": "t",
    **_SERVERS,
}
_OWN: dict[str, dict[str, Any]] = {
    "ArrayArchiver": {"save_template": "s", "object_selector": "*", "event_name": "e"},
    "Component": {"path": "module:Class"},
    "Comux": {"cam_ids": [], **_SERVERS},
    "Compressed": {"archives": {}, "entries": {}, "skipped": {}},
    "Control": {"acts": {}, "comux": Comux([])},
    "DataHandler": {"storage": ps.store("memory")},
    "DataLogger": {"output_directory": "d"},
    "DataProcessor": {"function": _three},
    "Encoder": {"kind": int, "encode": str, "decode": int},
    "FaultySource": {"source": FakeSource()},
    "FaultyStore": {"store": FakeSource()},
    "Flow": {"nodes": (), "edges": (), "tails": ()},
    "HERODataArchiver": {"object_selector": "*", "event_name": "e"},
    "HeroSource": {"object_selector": "*", "event_name": "e"},
    "HeroStore": {"hero": "h", "event_name": "e"},
    "JsonArchiver": {"save_template": "s", "object_selector": "*", "event_name": "e"},
    "JsonStore": {"path": "p.json"},
    "KafkaSource": {"topics": ["t"], **_SERVERS},
    "KafkaStore": _SERVERS,
    "LMDBData": {"obj": 1, "time": 0.0, "is_queue": False},
    "LogMessage": {"payload": None},
    "LoggerQueue": {"address": "d"},
    "Node": {"role": "source"},
    "NpyStackStore": {"path": "p.npy"},
    "NpyStore": {"path": "p.npy"},
    "Run": {"pipeline": ps.Pipeline([1]), "plugins": ps.Plugins()},
    "RunReport": {"account": Account(nodes=(), edges=(), elapsed_s=0.0)},
    "Sample": {"n": 2},
    "Shared": {"size_bytes": 1, "in_use": False},
    "SlowStore": {"store": FakeSource()},
    "VideoSource": {"url": "u"},
    "ZenohSource": {"key": "k"},
    "ZenohStore": {"key": "k"},
    "assert_same_data": {"expected": 1, "actual": 1},
    "assert_same_record": {"expected": ps.Record(1), "actual": ps.Record(1)},
    "assert_unique": {"records": []},
    "compress_npy_logs": {"log_directory": "d"},
    "penstock.control": {"component": "iterable"},
    "penstock_zenoh.control": {"key": "k"},
    "DataHandler.await_data": {"coords": {"time": 0}, "timeout_s": 0.01},
    "DataHandler.get": {"coords": {"time": 0}, "timeout_s": 0.01},
    "DataHandler.get_data": {"coords": {"time": 0}},
    "DataHandler.put": {"coords": {"time": 0}, "timeout_s": 0.01},
    "DataHandler.subscribe": {"event": "stored", "callback": print},
    "Pipeline.from_plain": {"plain": {}},
    "Pipeline.from_toml": {"text": ""},
    "Pipeline.name_of": {"node": "null"},
    "Pipeline.read": {"path": "p.toml"},
    "Pipeline.write": {"path": "p.toml"},
    "Plugins.components": {"role": "store"},
    "Plugins.find": {"role": "store", "name": "null"},
    "Plugins.load": {"role": "store", "name": "null"},
    "Run.pause": {"source": "numbers"},
    "Run.replace": {"node": "numbers", "new": ps.source([1])},
    "Run.resume": {"source": "numbers"},
    "raise_nth": {"fn": len},
    "source": {"component": "iterable"},
    "decoder": {"component": "json"},
    "processor": {"component": "batch"},
    "store": {"component": "memory"},
}
