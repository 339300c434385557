"""IterableSource: the items of any Python iterable, as records."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any, ClassVar

import attrs

from penstock.buffers import IMMUTABLE, BufferWatch, copied
from penstock.component import Remark
from penstock.error_text import is_a, text_of
from penstock.errors import BufferReusedError, EndOfSource, SourceError
from penstock.fields import ExactRecords
from penstock.record import Record
from penstock.short_text import short

_AT_ONCE = (list, tuple, range)
"""Types of sequences whose items exist already: iterating over them runs no user code."""
_SLOW_S = 0.0001
"""Seconds for one item above which it is returned at once: the time of passing a list on."""
_LONGEST_S = 0.001
"""Seconds for which items of an iterator are collected into a list: those of a slow one must not wait for others."""


@attrs.define(kw_only=True)
class IterableSource:
    """Read the items of an iterable. Records stay as they are; anything else becomes the `data` of one.

    An iterator cannot be restarted: after a crash, its items are lost. If it raises, the source ends with an error.

    Attributes:
        items: The iterable.
        channel: The channel of the records made of items; None: the name of the node, so that two iterables of a
            pipeline are two channels.
        reuses_buffers: Whether the iterable reuses an array, as camera drivers do. True
            copies each, False none. None: the first 16 arrays are copied, to detect whether their memory is
            reused; if it is, each is copied. See `penstock.buffers` for its limits.
    """

    stays_valid: ClassVar[bool] = True

    items: Iterable[Any]
    channel: str | None = None
    _node: str = attrs.field(default="", init=False, eq=False, repr=False)
    reuses_buffers: bool | None = None
    _watch: BufferWatch | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _iterator: Iterator[Any] | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _given: int = attrs.field(default=0, init=False, eq=False, repr=False)
    _raised: BaseException | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _count: int = attrs.field(default=0, init=False, eq=False, repr=False)
    _collecting: Sequence[Any] = attrs.field(default=(), init=False, eq=False, repr=False)
    _left_inside: int = attrs.field(default=0, init=False, eq=False, repr=False)
    _last: tuple[Any, ...] | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _remark: str = attrs.field(default="", init=False, eq=False, repr=False)

    def take_node_name(self, name: str) -> None:
        """Take the name of the node as channel, unless there is one."""
        self._node = name

    def open(self) -> None:
        """Begin to iterate. Raises SourceError if that is not possible."""
        self._remark, self._last = "", None
        try:
            self._iterator = iter(self.items)
        except BaseException as error:  # the user's iterable may raise anything
            kind = type(self.items).__name__
            raise SourceError(f"cannot iterate over this {kind}: {text_of(error)}", retryable=False) from error
        self._given, self._raised, self._left_inside = 0, None, 0
        if self.reuses_buffers is None and not _may_refill(self.items):
            self._watch = None
        else:
            self._watch = BufferWatch(self.reuses_buffers, "the iterable")

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return the next items; a slow iterator makes this wait for one item at most.

        Raises:
            EndOfSource: there are no more.
            SourceError: the iterator raised; its error is the cause.
        """
        if self._iterator is None:
            raise SourceError("the source is not open", retryable=False)
        items: list[Any] = []
        self._collecting = items
        if self._raised is None:
            try:
                self._collect(items, self._iterator, max_records, timeout_s)
            except BufferReusedError as error:
                items[:] = [item for item in items if not _shares(item, error.array)]
                self._raised = error
            except BaseException as error:  # a user's generator may raise anything, even SystemExit
                self._raised = error
        self._collecting = ()  # in-place processors check for other references to an array
        self._given += len(items)
        if items:  # return the items first; an error is raised by the next call
            return self._records(items)
        if self._raised is not None and is_a(self._raised, BufferReusedError):
            raise self._raised
        if self._raised is not None:
            raise SourceError(f"the iterable raised {text_of(self._raised)}", retryable=False) from self._raised
        self._must_be_whole()
        if not self._given and self._iterator is self.items:
            self._remark = (
                "returned nothing: its iterator was already exhausted. A generator or other iterator yields its items "
                "once: create a new one for each run, or pass a list"
            )
        raise EndOfSource("the iterable is exhausted")

    def _collect(self, items: list[Any], iterator: Iterator[Any], most: int, timeout_s: float) -> None:
        """Add the next items; on an error, the items before it are in the list."""
        watch = self._watch
        if watch is None:
            items.extend(islice(iterator, most))
            return
        trusts, stays, unsettled = watch.trusts, watch.reuses is False, False
        clock = time.monotonic
        asked = clock()
        deadline = asked + min(_LONGEST_S, timeout_s)
        try:
            for item in iterator:
                came = clock()
                if unsettled:
                    watch.settle(items)
                if stays or type(item) in IMMUTABLE:
                    items.append(item)
                    unsettled, next_asked = False, came
                elif trusts:
                    unsettled, next_asked = watch.add(items, item), came
                else:
                    items.append(copied(item) if watch.reuses else watch.kept(item))
                    next_asked = clock()  # excludes the time of copying
                if came - asked > _SLOW_S or came >= deadline or len(items) >= most:
                    break
                asked = next_asked
        finally:
            if unsettled:
                watch.settle(items)

    def _must_be_whole(self) -> None:
        """Raise SourceError if a sequence ended before its length: `__getitem__` raised an IndexError of its own."""
        if not isinstance(self.items, Sequence):
            return
        try:
            count = len(self.items)
        except BaseException as error:  # as in read
            raise SourceError(f"the iterable raised {text_of(error)}", retryable=False) from error
        if self._given < count:
            raise SourceError(f"the iterable ended after {self._given} of {count} items", retryable=False)

    def _records(self, items: list[Any]) -> Sequence[Record]:
        kinds = list(map(type, items))
        if kinds.count(Record) == len(items):
            self._check_numbers(items)
            return items
        first, channel, clock = self._count, self._node if self.channel is None else self.channel, time.time_ns
        if not any(issubclass(kind, Record) for kind in set(kinds)):
            self._count += len(items)
            return ExactRecords(
                [Record(item, channel=channel, seq=seq, time_ns=clock()) for seq, item in enumerate(items, first)]
            )
        counted = count(first)
        records = [
            item
            if issubclass(type(item), Record)
            else Record(item, channel=channel, seq=next(counted), time_ns=clock())
            for item in items
        ]
        self._count = next(counted)
        return records

    def _check_numbers(self, records: list[Record]) -> None:
        """Remark that records have the same name and coordinates; look at the ends of each list only."""
        first, last = ((each.channel, each.seq, each.coords) for each in (records[0], records[-1]))
        before = first if len(records) > 1 else self._last
        self._last = last
        if before == last and not self._remark:
            self._remark = (
                f"several records are number {short(last[1])} of channel {short(last[0])}, so that stores regard "
                "them as one: make each with its own seq, or yield plain data, which is numbered"
            )

    def abandon(self) -> None:
        """Count as lost the items taken from an iterator that does not return. Thread-safe."""
        self._left_inside = len(self._collecting)

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many items an abandoned iterator had yielded into a list that was not returned."""
        return {self._node if self.channel is None else self.channel: self._left_inside} if self._left_inside else {}

    def remarks(self) -> Sequence[Remark]:
        """Return a warning if the iterator was exhausted before, or its records are not numbered."""
        return [Remark(self._remark, "warning")] if self._remark else []

    def close(self) -> None:
        """Close a generator, so that its `finally` runs."""
        close = getattr(self._iterator, "close", None)
        self._iterator = None
        if callable(close):
            close()


def _may_refill(items: Any) -> bool:
    """Return whether user code runs between two items, which could reuse the same memory."""
    return type(items) not in _AT_ONCE and type(items).__name__ != "ndarray"


def _shares(item: Any, array: Any) -> bool:
    import numpy

    data = item.data if isinstance(item, Record) else item
    return isinstance(data, numpy.ndarray) and numpy.may_share_memory(data, array)
