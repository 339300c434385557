"""Channels: a source's list of cameras in a file, a topic or MongoDB, reread during a run."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from penstock.error_text import text_of
from penstock.errors import ConfigError, SourceError
from penstock_kafka_av.kafka.options import from_environment
from penstock_kafka_av.kafka.topics import Schema

_log = logging.getLogger("penstock.kafka")
_KINDS: Final = ("file", "topic", "mongo")


def check_channels_from(_: object, __: object, value: Any) -> None:
    """Raise ConfigError unless the value is None, a path, or a mapping with one of the known kinds."""
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in _KINDS:
        raise ConfigError("channels_from: must be {'file': path}, {'topic': name} or {'mongo': {…}}")


class Channels:
    """Read the channels of a source. If a later read fails, the last list stays valid.

    A channel that is part of no legal topic name is left out, with a warning: one wrong line must not cost the others.

    Args:
        place: A path, or {"file": path}, {"topic": name}, {"mongo": {"uri", "database", "collection", "field"}}.
        schema: The schema of the topics.
        bootstrap_servers: Addresses of the brokers that have the topic.
        options: Options of the Kafka client.
    """

    def __init__(
        self,
        place: Mapping[str, Any] | str,
        *,
        schema: Schema,
        bootstrap_servers: Sequence[str],
        options: Mapping[str, Any],
    ) -> None:
        self._kind: str = "file" if isinstance(place, str) else next(iter(place))
        self._where: Any = place if isinstance(place, str) else place[self._kind]
        self._bootstrap_servers = bootstrap_servers
        self._options = options
        self._schema = schema
        self._left_out: set[str] = set()
        self._known: tuple[str, ...] | None = None
        self._read_at = 0.0

    def current(self, *, every_s: float) -> tuple[str, ...]:
        """Return the channels, reread if the last read is `every_s` seconds ago.

        Raises:
            SourceError: the first read failed; later failures are logged.
        """
        now = time.monotonic()
        if self._known is not None and now - self._read_at < every_s * 0.9:
            return self._known
        self._read_at = now
        try:
            found = tuple(dict.fromkeys(str(each) for each in self._read()))
        except Exception as error:  # e.g. a half-written file or a server that is down: keep the last list
            if self._known is None:
                raise SourceError(f"channels_from {self._kind}: {text_of(error)}") from error
            _log.warning("channels_from %s: %s; keeping the last list", self._kind, text_of(error))
            return self._known
        self._known = tuple(each for each in found if self._is_usable(each))
        return self._known

    def _is_usable(self, channel: str) -> bool:
        try:
            self._schema.topic(channel)
        except ConfigError as error:
            if channel not in self._left_out:
                self._left_out.add(channel)
                _log.warning("channels_from %s: %s; it is left out", self._kind, error)
            return False
        return True

    def _read(self) -> Sequence[Any]:
        if self._kind == "file":
            return channels_of_text(Path(self._where).read_text("utf-8"))
        if self._kind == "topic":
            from penstock_kafka_av.kafka.compacted import latest_by_key

            found = latest_by_key(self._where, self._bootstrap_servers, self._options)
            return [key for key, value in found.items() if value is not None]
        from penstock_kafka_av.comux.mongo import MongoConnect

        settings = {
            name: value if name == "query" else from_environment(value, f"channels_from mongo: {name}")
            for name, value in self._where.items()
        }
        with MongoConnect(**settings) as mongo:
            return mongo.ret_cam_ids()


def channels_of_text(text: str) -> list[str]:
    r"""Return the channels of a JSON list, or of text with one per line; "#" begins a comment. Raises ConfigError.

    >>> channels_of_text("left\n# the old one\nright\n"), channels_of_text('["left", 3]')
    (['left', 'right'], ['left', '3'])
    """
    if text.lstrip().startswith("["):
        try:
            return [str(each) for each in json.loads(text)]
        except ValueError as error:
            raise ConfigError(f"the list of channels is not valid JSON: {error}") from error
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]
