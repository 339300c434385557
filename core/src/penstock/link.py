"""Link: joins two processes by a store at one end and a source of the same name at the other, each way."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from penstock.errors import ComponentLoadError, StoreError
from penstock.record import Record
from penstock.source import Source, SupportsSourceLink
from penstock.store import Store, SupportsStoreLink

if TYPE_CHECKING:
    from penstock.plugins import Plugins

LINK: Final = "shm"
"""The source and the store that link the processes of one machine."""

_WORDS: Final = "\0penstock"
"""The channel of the record that ends a message; users' channel names do not contain NUL bytes."""
_AT_ONCE: Final = 1024
AHEAD_BYTES: Final = 3 * 2**19
"""Largest message, in bytes, that can be sent twice without waiting before the other side reads."""


@attrs.frozen(eq=False)
class Message:
    """A message from one side to the other.

    Attributes:
        words: The request or the answer, as plain data.
        records: The records that belong to it, in order.
        missing: Records that could not be sent, by their index in the original list, each with the reason.
    """

    words: Mapping[str, Any]
    records: Sequence[Record]
    missing: Mapping[int, str]

    @property
    def places(self) -> list[int]:
        """The indices of `records` in the original list."""
        count = len(self.records) + len(self.missing)
        return [place for place in range(count) if place not in self.missing]


class Link:
    """Send messages, and receive those of the other side, in order. Used by one thread.

    A message is a list of records and a final one that holds the words. Any record that the codec can write can be
    sent.
    """

    def __init__(self, there: Store, back: Source) -> None:
        self._there = there
        self._back = back
        self._came: deque[Sequence[Record]] = deque()
        self._records: list[Record] = []
        self._words: Mapping[str, Any] | None = None

    def open(self) -> None:
        """Open both ends, the listening one first. Raises their errors; nothing stays open then."""
        self._back.open()
        try:
            self._there.open()
        except BaseException:
            self._back.close()
            raise

    def close(self) -> None:
        """Close both ends. Received records stay valid."""
        self._there.close()
        self._back.close()
        self._came.clear()

    def send(self, words: Mapping[str, Any], records: Sequence[Record] = ()) -> dict[int, BaseException]:
        """Send a message; return the records that cannot be written as bytes, by index. The others were sent.

        Raises:
            StoreError: the link is broken.
        """
        last = _to_record({"words": words, "count": len(records)})
        try:
            self._there.write([*records, last])
        except StoreError as error:
            causes = {id(record): cause for record, cause in error.failed}
            if not causes or id(last) in causes:
                raise
            refused = {place: causes[id(each)] for place, each in enumerate(records) if id(each) in causes}
            self._there.write([_to_record({"missing": {place: str(cause) for place, cause in refused.items()}})])
            return refused
        return {}

    def receive(self, timeout_s: float) -> Message | None:
        """Return the next message, or None if it is not complete within `timeout_s` seconds.

        Raises:
            EndOfSource: the other side has closed.
            SourceError: it has died, or the link is broken.
        """
        while True:
            message = self._next() if self._came else None
            if message is not None:
                return message
            came = self._back.read(_AT_ONCE, timeout_s)
            if not came:
                return None
            self._came.append(came)

    def _next(self) -> Message | None:
        """Return the next message if it is complete."""
        while self._came:
            came = self._came.popleft()
            channels = [record.channel for record in came]
            if _WORDS not in channels:
                self._records.extend(came)
                continue
            last = channels.index(_WORDS)
            self._records.extend(came[:last])
            if last + 1 < len(came):
                self._came.appendleft(came[last + 1 :])
            message = self._message_of(came[last])
            if message is not None:
                return message
        return None

    def _message_of(self, record: Record) -> Message | None:
        """Return the message that this record completes, unless the reasons for missing records follow."""
        last = _words_of(record)
        missing: Mapping[int, str] = {}
        if self._words is not None:
            words, missing = self._words, last["missing"]
        elif last["count"] != len(self._records):
            self._words = last["words"]  # the reasons follow
            return None
        else:
            words = last["words"]
        records, self._records, self._words = self._records, [], None
        return Message(words, records, missing)


def link_classes(plugins: Plugins, name: str = LINK) -> tuple[Any, Any]:
    """Return the classes of the store and the source that make a link.

    Raises:
        PluginError: they are not installed, cannot be imported, or are not ends of a link.
    """
    store, source = plugins.load("store", name), plugins.load("source", name)
    for made, ability in ((store, SupportsStoreLink), (source, SupportsSourceLink)):
        if not isinstance(made, ability):
            raise ComponentLoadError(f"{made.__qualname__} is not an end of a link: it has no for_link()")
    return store, source


def _to_record(words: Mapping[str, Any]) -> Record:
    from penstock.codec import encode_bytes

    return Record(encode_bytes(Record(dict(words))), channel=_WORDS)


def _words_of(record: Record) -> Mapping[str, Any]:
    from penstock.codec import decode

    words: Mapping[str, Any] = decode(record.data).data
    return words
