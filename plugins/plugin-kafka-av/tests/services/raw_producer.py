"""Produces messages that confluent-kafka refuses, with its own librdkafka: headers whose names are any bytes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import cached
import confluent_kafka

_PRODUCER = 0
_END, _TOPIC, _VALUE, _FLAGS, _HEADER = 0, 1, 4, 7, 9  # rd_kafka_vtype_t
_COPY = 2


def produce(address: str, topic: str, value: bytes, headers: Sequence[tuple[bytes, bytes | None]]) -> None:
    """Produce a message, and wait for the acknowledgement. Raises cached.NotThere without librdkafka as a file."""
    found = [*Path(confluent_kafka.__file__).parent.parent.glob("confluent_kafka.libs/librdkafka*")]
    if not found:
        raise cached.NotThere("this build of confluent-kafka has no librdkafka beside it")
    library = ctypes.CDLL(str(found[0]))
    for name in ("conf_new", "new", "producev"):
        getattr(library, f"rd_kafka_{name}").restype = ctypes.c_void_p if name != "producev" else ctypes.c_int
    text = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(conf, b"bootstrap.servers", address.encode(), text, ctypes.c_size_t(512))
    client = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, conf, text, ctypes.c_size_t(512)))
    assert client, text.value
    named: list[object] = []
    for name, each in headers:
        named += [_HEADER, ctypes.c_char_p(name), ctypes.c_char_p(each), ctypes.c_ssize_t(len(each or b""))]
    try:
        failed = library.rd_kafka_producev(
            client, _TOPIC, ctypes.c_char_p(topic.encode()), _VALUE, ctypes.c_char_p(value),
            ctypes.c_size_t(len(value)), _FLAGS, _COPY, *named, _END,
        )  # fmt: skip
        assert not failed, failed
        assert not library.rd_kafka_flush(client, 30_000)
    finally:
        library.rd_kafka_destroy(client)
