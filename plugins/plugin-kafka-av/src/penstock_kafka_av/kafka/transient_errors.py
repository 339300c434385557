"""TransientErrors: logs transient errors of a client, each kind at most once a minute."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from confluent_kafka import KafkaError

from penstock_kafka_av.kafka.errors import text_of

_log = logging.getLogger("penstock.kafka")
_AGAIN_S: Final = 60.0


class TransientErrors:
    """Log transient errors of a client.

    Attributes:
        recent: The errors since the source began to open; empty once `opened` was called.
    """

    def __init__(self, where: str) -> None:
        self.recent: list[Any] = []
        self._where = where
        self._is_open = False
        self._logged: dict[Any, float] = {}

    def opened(self) -> None:
        """Log errors from now on; until then, `KafkaSource.open` reports them."""
        self._is_open = True
        self.recent.clear()

    def report(self, error: Any) -> None:
        """Log an error. The client calls this from within `poll` and `consume`."""
        if not self._is_open:
            self.recent.append(error)
            return
        code = error.code() if isinstance(error, KafkaError) else str(error)
        now = time.monotonic()
        if now - self._logged.get(code, -_AGAIN_S) >= _AGAIN_S:
            self._logged[code] = now
            _log.warning("%s: %s", self._where, text_of(error))
