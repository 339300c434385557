"""Video and Kafka for penstock: cameras from topics, files and RTSP, decoded to arrays, and results sent back.

The classes are in the modules of their roles, and can be had here too (`from penstock_kafka_av import KafkaSource`):
a module is imported when its class is first asked for, and importing this package imports neither av nor a client.
"""

from __future__ import annotations

from typing import Any

_HOMES = {
    "Comux": "comux.comux",
    "Control": "comux.control",
    "ImageStore": "recording.image_store",
    "KafkaLinkSource": "kafka.link.source",
    "KafkaLinkStore": "kafka.link.store",
    "KafkaSource": "kafka.source",
    "KafkaStore": "kafka.store",
    "MongoConnect": "comux.mongo",
    "VideoStore": "recording.video_store",
}

__all__ = [
    "Comux",
    "Control",
    "ImageStore",
    "KafkaLinkSource",
    "KafkaLinkStore",
    "KafkaSource",
    "KafkaStore",
    "MongoConnect",
    "VideoStore",
]


def __getattr__(name: str) -> Any:
    """Import a class when it is first asked for. Raises AttributeError."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
