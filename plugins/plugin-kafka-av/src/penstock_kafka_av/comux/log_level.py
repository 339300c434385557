"""The log level of a Comux."""

from __future__ import annotations

import logging

from penstock.errors import ConfigError
from penstock.short_text import short

LOGGERS = ("penstock.comux", "penstock.kafka")


def set_log_level(level: str | int | None) -> None:
    """Set the level of the loggers of a Comux; None leaves them as they are. Raises ConfigError."""
    if level is None:
        return
    for name in LOGGERS:
        try:
            logging.getLogger(name).setLevel(level)
        except (TypeError, ValueError):
            raise ConfigError(f"log_level={short(level)}: must be a level of logging, as in 'INFO'") from None
