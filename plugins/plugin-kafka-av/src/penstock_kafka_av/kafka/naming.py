"""Naming: the channel of each message in topics that several cameras share."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from penstock.identity import digest_number
from penstock.record import Record
from penstock.templates import Template

_REMEMBERED: Final = 10_000


class Naming:
    """Name channels by a template, and mark in each channel the discontinuities of its partition.

    Args:
        template: Template of the channel: "{{ key }}", "{{ headers.camera }}".
        one_topic: Whether all messages are of one topic, so that partition and offset identify them.
    """

    def __init__(self, template: str, *, one_topic: bool) -> None:
        self._template = Template(template)
        self._by_key = self._template.variables == {"key"}
        self._by_offset = one_topic or "topic" in self._template.variables
        self._names: OrderedDict[Any, str] = OrderedDict()
        self._partitions: dict[str, str] = {}
        self._broken: set[str] = set()

    def named(self, record: Record) -> Record:
        """Return the record in its channel. Raises TemplateError if it lacks a key or header of the template."""
        metadata = record.metadata
        where = f"{metadata['topic']}/{metadata['partition']}"
        if record.discontinuity:
            self._broken.update(name for name, place in self._partitions.items() if place == where)
        channel = self._name(record)
        is_broken = channel in self._broken or (record.discontinuity and channel not in self._partitions)
        self._broken.discard(channel)
        self._partitions[channel] = where
        seq = record.seq
        if not self._by_offset:
            seq = digest_number("kafka", metadata["topic"], metadata["partition"], metadata["offset"])
        return record.replace(channel=channel, seq=seq, discontinuity=is_broken)

    def _name(self, record: Record) -> str:
        if not self._by_key or "key" not in record.metadata:
            return self._template.render(record)
        key = record.metadata["key"]
        name = self._names.get(key)
        if name is None:
            name = self._template.render(record)
            self._names[key] = name
            if len(self._names) > _REMEMBERED:
                self._names.popitem(last=False)
        return name
