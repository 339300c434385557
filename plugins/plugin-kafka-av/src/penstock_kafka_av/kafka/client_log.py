"""ClientLog: writes the log of a Kafka client to a logger, without its repetitions."""

from __future__ import annotations

import logging
import re
import time
from typing import Any, Final

_log = logging.getLogger("penstock.kafka")
_AGAIN_S: Final = 60.0
_MOST: Final = 200
_VARYING = re.compile(r"rdkafka#\w+-\d+|\(after [^)]*\)|\d+ identical error\(s\) suppressed")


class ClientLog:
    """The logger of one client. A line that repeats within a minute is logged as DEBUG.

    While a broker is down, librdkafka writes a line for each of its attempts to connect, some twenty a second.
    """

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}

    def log(self, level: int, message: str, *args: Any) -> None:
        """Log a line; called by the client, from within `poll` and `consume`."""
        line = _VARYING.sub("", message % args if args else message)
        now = time.monotonic()
        if now - self._logged.get(line, -_AGAIN_S) < _AGAIN_S:
            level = logging.DEBUG
        else:
            if len(self._logged) >= _MOST:
                self._logged.clear()
            self._logged[line] = now
        _log.log(level, message, *args)
