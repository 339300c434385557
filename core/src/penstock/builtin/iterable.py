"""IterableSource: whatever Python can iterate over, as records."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import attrs

from penstock.errors import EndOfSource, SourceError
from penstock.record import Record

_LONGEST_S = 0.005
"""How long records are collected from an iterator before they are handed over: a slow one must not wait for company."""


@attrs.define(kw_only=True)
class IterableSource:
    """Give the items of an iterable. Records stay as they are; anything else becomes the `data` of one.

    An iterator cannot be asked again: after a crash, what it gave is gone. If it raises, the source ends with an error.

    Attributes:
        items: The iterable.
        channel: The channel of the records made of items; None: the name of the node, so that two iterables of a
            pipeline are two channels.
    """

    items: Iterable[Any]
    channel: str | None = None
    _node: str = attrs.field(default="", init=False, eq=False, repr=False)
    _iterator: Iterator[Any] | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _count: int = attrs.field(default=0, init=False, eq=False, repr=False)
    _gave: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    _remark: str = attrs.field(default="", init=False, eq=False, repr=False)

    def take_node_name(self, name: str) -> None:
        """Take the name of the node as channel, unless there is one."""
        self._node = name

    def open(self) -> None:
        """Begin to iterate. Raises SourceError if that is not possible."""
        self._gave, self._remark = False, ""
        try:
            self._iterator = iter(self.items)
        except Exception as error:  # the iterable is the user's
            raise SourceError(f"cannot iterate over {self.items!r:.100}: {error}", retryable=False) from error

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the next items; a slow iterator makes this wait for one item at most.

        Raises:
            EndOfSource: there are no more.
            SourceError: the iterator raised; its error is the cause.
        """
        if self._iterator is None:
            raise SourceError("the source is not open", retryable=False)
        items: list[Any] = []
        try:
            if isinstance(self.items, Sequence):
                items.extend(islice(self._iterator, max_records))
            else:
                deadline = time.monotonic() + min(_LONGEST_S, timeout_s)
                for item in self._iterator:
                    items.append(item)
                    if len(items) >= max_records or time.monotonic() >= deadline:
                        break
        except Exception as error:  # whatever a user's generator raises
            if not items:
                raise SourceError(f"the iterable raised {type(error).__name__}: {error}", retryable=False) from error
            self._iterator = _raising(error)
        if not items:
            if not self._gave and self._iterator is self.items:
                self._remark = (
                    "gave nothing: its iterator was at its end before. A generator or another iterator gives its items "
                    "once: make a new one for each run, or give a list"
                )
            raise EndOfSource("the iterable is at its end")
        self._gave = True
        if list(map(type, items)).count(Record) == len(items):
            return items
        return [item if isinstance(item, Record) else self._record(item) for item in items]

    def _record(self, item: Any) -> Record:
        number = self._count
        self._count += 1
        channel = self._node if self.channel is None else self.channel
        return Record(item, channel=channel, seq=number, time_ns=time.time_ns())

    def remark(self) -> str:
        """Return that the iterator was used up, if it was."""
        return self._remark

    def close(self) -> None:
        """Close a generator, so that its `finally` runs."""
        close = getattr(self._iterator, "close", None)
        self._iterator = None
        if callable(close):
            close()


def _raising(error: Exception) -> Iterator[Any]:
    raise error
    yield
