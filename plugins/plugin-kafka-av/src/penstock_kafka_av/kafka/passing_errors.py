"""PassingErrors: errors of a client that go away by themselves, in the log, each kind once a minute."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from confluent_kafka import KafkaError

from penstock_kafka_av.kafka.errors import text_of

_log = logging.getLogger("penstock.kafka")
_AGAIN_S: Final = 60.0


class PassingErrors:
    """Log errors that go away by themselves.

    Attributes:
        heard: The last ones, until `opened`.
    """

    def __init__(self, where: str) -> None:
        self.heard: list[Any] = []
        self._where = where
        self._is_open = False
        self._logged: dict[Any, float] = {}

    def opened(self) -> None:
        """Log what comes from now on; until then, opening the source reports it."""
        self._is_open = True
        self.heard.clear()

    def say(self, error: Any) -> None:
        """Take an error. The client calls this from within poll and consume."""
        if not self._is_open:
            self.heard.append(error)
            return
        code = error.code() if isinstance(error, KafkaError) else str(error)
        now = time.monotonic()
        if now - self._logged.get(code, -_AGAIN_S) >= _AGAIN_S:
            self._logged[code] = now
            _log.warning("%s: %s", self._where, text_of(error))
