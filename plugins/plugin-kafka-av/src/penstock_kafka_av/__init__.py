"""Video and Kafka for penstock: cameras from topics, files and RTSP, decoded to arrays, and results sent back.

The classes are defined in the modules of their roles, and available here too (`from penstock_kafka_av import
KafkaSource`). Each module is imported on first access, so importing this package imports neither av nor a Kafka client.
"""

from __future__ import annotations

from typing import Any

_HOMES = {
    "AvDecoder": "decoder",
    "BackgroundDifference": "background",
    "Comux": "comux.comux",
    "Control": "comux.control",
    "ImageStore": "recording.image_store",
    "KafkaLinkSource": "kafka.link.source",
    "KafkaLinkStore": "kafka.link.store",
    "KafkaSource": "kafka.source",
    "KafkaStore": "kafka.store",
    "MongoConnect": "comux.mongo",
    "TestPictureSource": "test_picture",
    "Thumbnail": "thumbnail",
    "VideoSource": "source",
    "VideoStore": "recording.video_store",
}

__all__ = [
    "AvDecoder",
    "BackgroundDifference",
    "Comux",
    "Control",
    "ImageStore",
    "KafkaLinkSource",
    "KafkaLinkStore",
    "KafkaSource",
    "KafkaStore",
    "MongoConnect",
    "TestPictureSource",
    "Thumbnail",
    "VideoSource",
    "VideoStore",
]


def __getattr__(name: str) -> Any:
    """Import a class on first access. Raises AttributeError."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__
