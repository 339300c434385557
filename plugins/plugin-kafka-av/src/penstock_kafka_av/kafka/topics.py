"""Topics: the topics that a source reads, and the channel of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from penstock.errors import ConfigError
from penstock.short_text import short

_GAP = re.compile(r"\{\{\s*channel\s*\}\}|:cam_id")
_MOST_NAMES = 10
_LEGAL = re.compile(r"[a-zA-Z0-9._-]+")


@attrs.frozen
class Schema:
    """A pattern of topic names with a gap for the channel: `raw_{{ channel }}`, or comux's `raw_:cam_id`.

    Raises:
        ConfigError: it has no gap, or more than one.
    """

    text: str

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.text, str) or len(_GAP.findall(self.text)) != 1:
            raise ConfigError(f"schema={self.text!r}: needs one gap, as in 'raw_{{{{ channel }}}}' or 'raw_:cam_id'")

    def topic(self, channel: str) -> str:
        """Return the topic of a channel. Raises ConfigError if Kafka does not allow the name."""
        topic = _GAP.sub(lambda _: channel, self.text)
        if not channel or not _LEGAL.fullmatch(topic) or len(topic) > 249:
            raise ConfigError(
                f"channel {channel!r}: {topic!r} is not a topic name: use letters, digits, '.', '_' and '-'"
            )
        return topic

    def channel(self, topic: str) -> str | None:
        """Return the channel of a topic, or None if the topic does not match."""
        found = re.fullmatch(self.pattern, topic)
        return found[1] if found else None

    @property
    def pattern(self) -> str:
        """A regular expression for the topics, with the channel as its group."""
        before, after = _GAP.split(self.text)
        return f"^{re.escape(before)}(.+){re.escape(after)}$"


def check_topic(_: object, __: object, value: Any) -> None:
    """Raise ConfigError unless the value is a legal topic name."""
    _check_legal("topic", value)


def _check_legal(setting: str, value: Any) -> None:
    if not isinstance(value, str) or not _LEGAL.fullmatch(value) or len(value) > 249 or value in (".", ".."):
        raise ConfigError(f"{setting}={short(value)}: must be a topic name of letters, digits, '.', '_' and '-'")


def channel_template(text: str) -> str:
    """Return the template with comux's ":cam_id" replaced by "{{ channel }}"."""
    return text.replace(":cam_id", "{{ channel }}")


@attrs.frozen
class Topics:
    """The topics of a source: a list, a regular expression, or a schema with or without its channels.

    Attributes:
        names: The topics, or None for all topics that match `pattern`.
        pattern: A regular expression for whole names.
        schema: The schema that maps a topic to its channel; without it, the topic is the channel.
    """

    names: tuple[str, ...] | None = None
    pattern: str | None = None
    schema: Schema | None = None

    @classmethod
    def of(
        cls, *, topics: Sequence[str] | None, pattern: str | None, schema: str | None, channels: Sequence[str] | None
    ) -> Topics:
        """Return the topics that a source's settings select. Raises ConfigError unless exactly one setting is given."""
        chosen = [name for name, value in (("topics", topics), ("pattern", pattern), ("schema", schema)) if value]
        if len(chosen) != 1:
            raise ConfigError(f"set one of topics, pattern and schema, not {' and '.join(chosen) or 'none'}")
        if topics:
            for topic in topics:
                _check_legal("topics", topic)
            return cls(names=tuple(dict.fromkeys(topics)))
        if pattern:
            whole = f"^(?:{pattern.removeprefix('^').removesuffix('$')})$"
            try:
                re.compile(whole)
            except re.error as error:
                raise ConfigError(f"pattern={pattern!r}: {error}") from error
            return cls(pattern=whole)
        made = Schema(schema or "")
        if channels is None:
            return cls(pattern=made.pattern, schema=made)
        return cls(names=tuple(dict.fromkeys(made.topic(channel) for channel in channels)), schema=made)

    def choose(self, existing: Iterable[str]) -> list[str]:
        """Return the selected topics that exist; Kafka's internal topics ("__…") only if they are named."""
        if self.names is not None:
            return [name for name in self.names if name in set(existing)]
        matches = re.compile(self.pattern or "")
        return sorted(name for name in existing if matches.match(name) and not name.startswith("__"))

    def absence(self, existing: Iterable[str]) -> str:
        """Return a sentence on selected topics that do not exist; "" if there are none."""
        if self.names is None:
            return (
                ""
                if self.choose(existing)
                else f"no topic matched {self.pattern} at the start; topics that appear later are read"
            )
        absent = [name for name in self.names if name not in set(existing)]
        if not absent:
            return ""
        more = f" and {len(absent) - _MOST_NAMES} more" if len(absent) > _MOST_NAMES else ""
        names = ", ".join(map(repr, absent[:_MOST_NAMES]))
        return f"these topics did not exist at the start: {names}{more}; they are read from their first message on"

    def channel(self, topic: str) -> str:
        """Return the channel of a topic."""
        channel = self.schema.channel(topic) if self.schema is not None else None
        return topic if channel is None else channel
