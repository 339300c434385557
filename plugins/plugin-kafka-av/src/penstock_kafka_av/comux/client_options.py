"""Options of comux's Kafka client, kafka-python, under the names of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_RENAMED: Final = {
    "fetch_max_wait_ms": "fetch.wait.max.ms",
    "max_request_size": "message.max.bytes",
    "receive_buffer_bytes": "socket.receive.buffer.bytes",
    "request_timeout_ms": "socket.timeout.ms",
    "sasl_plain_password": "sasl.password",
    "sasl_plain_username": "sasl.username",
    "send_buffer_bytes": "socket.send.buffer.bytes",
    "ssl_cafile": "ssl.ca.location",
    "ssl_certfile": "ssl.certificate.location",
    "ssl_ciphers": "ssl.cipher.suites",
    "ssl_crlfile": "ssl.crl.location",
    "ssl_keyfile": "ssl.key.location",
    "ssl_password": "ssl.key.password",
}
"""Options whose names differ in more than the dots."""


def renamed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with librdkafka's names; those of kafka-python, with "_" for ".", are translated."""
    return {_RENAMED.get(name) or _dotted(name): value for name, value in options.items()}


def _dotted(name: str) -> str:
    return name if "." in name or name.endswith("_cb") else name.replace("_", ".")
