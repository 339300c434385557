"""ProcessStep: a processor in a lane, called for each record."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import msgspec

from penstock.compose.resolve import Part
from penstock.coords import DataCoordinates
from penstock.errors import RunAborted
from penstock.processor import SupportsDeadline, SupportsFlush, SupportsHeld, SupportsRun
from penstock.record import Record
from penstock.report.counters import Tally, count_channels
from penstock.run.steps.guard import Ward
from penstock.run.steps.step import Step, only_records

_NOTHING: type = type(None)
_replace = msgspec.structs.replace
"""What `Record.replace` calls; without the way through it, this takes a quarter of the time."""
_GIVEN_UP = object()
"""Stands for the result of a record that failed for good, and is counted already."""


class ProcessStep(Step):
    """A processor: call it for each record."""

    def __init__(self, part: Part, run: Ward, tally: Tally | None = None) -> None:
        super().__init__(part, run, tally)
        self._made: Any = None
        self._call: Callable[[Record], Any] = lambda record: record
        self._in_place = False
        self._numbers: dict[str, int] = {}

    def open(self) -> None:
        """Make the processor, open it if it wants, and see which form of arguments it takes."""
        self._made = self.part.make()
        self._in_place = bool(getattr(self._made, "in_place", False))
        self._call = _adapted(self._made)
        self._keeps = isinstance(self._made, SupportsHeld)
        self.clocked = isinstance(self._made, SupportsDeadline)
        if isinstance(self._made, SupportsRun):
            self._made.bind(self._run)
        if callable(getattr(self._made, "open", None)):
            self._made.open()

    def run(self, records: Sequence[Record]) -> list[Record]:
        """Call the processor for each, in a loop that the interpreter runs by itself."""
        call = self._call
        if self._in_place:
            records = [_own(record) for record in records]
        self.tally.taken += len(records)
        results: list[Any] = []
        todo = iter(records)
        while True:
            try:
                results.extend(map(call, todo))  # on an error, what came before it is in the list
                break
            except RunAborted:
                raise
            except BaseException as error:  # whatever a user's function raises, SystemExit too: it costs one record
                results.append(self._retry(records[len(results)], error))
        kinds = list(map(type, results))  # counted in half the time that a set takes
        if kinds.count(Record) == len(kinds):
            self.tally.passed += len(results)
            return results
        if kinds.count(_NOTHING) == len(kinds):
            self._count_empty(records)
            return []
        return self._sort(records, results)

    def _sort(self, records: Sequence[Record], results: Sequence[Any]) -> list[Record]:
        """Count what is neither one record for each nor nothing for each, and make it one list."""
        given: list[Record] = []
        empty: list[Record] = []
        for record, result in zip(records, results, strict=True):
            if result is _GIVEN_UP:
                continue
            if isinstance(result, Iterator):
                result = self._drain(record, result)
                if result is _GIVEN_UP:
                    continue
            count = self._expand(record, result, given)
            if count:
                self.tally.passed += 1
                self.tally.extra += count - 1
            else:
                empty.append(record)
        self._count_empty(empty)
        return given

    def _count_empty(self, records: Sequence[Record]) -> None:
        if self._keeps:
            self.tally.gathered += len(records)
        elif records:
            count_channels(self.tally.discarded, records)

    def _drain(self, record: Record, result: Iterator[Any]) -> Any:
        """Return as a list what a processor returned as an iterator; the next ones are asked for within its call."""
        call, self._call = self._call, lambda each: _listed(call(each))
        try:
            return list(result)
        except BaseException as error:  # as in run
            return self._retry(record, error)

    def _retry(self, record: Record, error: BaseException) -> Any:
        try:
            return self.guard.again(lambda: self._call(record), error)
        except BaseException as last:  # as in run
            self.guard.give_up(record, last, self.guard.tries(last))
            return _GIVEN_UP

    def _expand(self, record: Record, result: Any, given: list[Record]) -> int:
        """Add what a processor returned to `given`; return how many records that are."""
        if result is None:
            return 0
        if isinstance(result, Record):
            given.append(result)
            return 1
        if isinstance(result, (list, tuple)):
            given.extend(item if isinstance(item, Record) else self._numbered(record, item) for item in result)
            return len(result)
        given.append(record.replace(data=result))
        return 1

    def _numbered(self, record: Record, data: Any) -> Record:
        number = self._numbers.get(record.channel, 0)
        self._numbers[record.channel] = number + 1
        return record.replace(data=data, seq=number)

    def flush(self) -> list[Record]:
        """Return what the processor still has."""
        return self._late("flush") if isinstance(self._made, SupportsFlush) else []

    def held(self) -> dict[int, Record]:
        """Return what the processor says that it keeps."""
        if not self._keeps:
            return {}
        try:
            return {id(record): record for record in self._made.held()}
        except BaseException as error:  # as in run; who knows what is inside
            self.guard.fail_held(error)
            return {}

    def wait_s(self) -> float | None:
        """Ask the processor, if it has a clock."""
        if not self.clocked:
            return None
        try:
            wait = self._made.wait_s()
            return None if wait is None else float(wait)
        except BaseException as error:  # as in run; without a clock it still has its flush
            self.guard.fail_late("wait_s", error)
            return None

    def expire(self) -> list[Record]:
        """Let the processor give what is due."""
        return self._late("expire")

    def _late(self, method: str) -> list[Record]:
        held = self.held() if method == "flush" else {}
        try:
            given = only_records(getattr(self._made, method)(), method)
        except BaseException as error:  # a flush that raises must not keep what is behind it from ending
            self.guard.fail_late(method, error)
            self.give_up_held(held.values(), error)
            return []
        self.tally.extra += len(given)
        return given

    def close(self) -> None:
        """Close the processor if it wants."""
        self.close_component(self._made)


def _adapted(processor: Any) -> Callable[[Record], Any]:
    """Return a function of one record that raises what it has to raise when it is called.

    A processor of (coords, data, metadata) is wrapped, and so is a generator function, which would raise later.
    """
    if inspect.isgeneratorfunction(processor) or inspect.isgeneratorfunction(getattr(processor, "__call__", None)):  # noqa: B004 - the method itself is looked at
        return lambda record: list(processor(record))
    try:
        parameters = list(inspect.signature(processor).parameters.values())
    except (TypeError, ValueError):  # a built-in without a signature takes one argument
        return cast("Callable[[Record], Any]", processor)
    needed = [
        each
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.default is each.empty
    ]
    if len(needed) != 3:
        return cast("Callable[[Record], Any]", processor)

    def call(record: Record) -> Any:
        result = processor(record.coords, record.data, record.metadata)
        if type(result) is tuple and len(result) == 3 and type(result[0]) is DataCoordinates:  # nearly always
            return _replace(record, coords=result[0], data=result[1], metadata=result[2])
        if result is None:
            return None
        if isinstance(result, tuple):
            return _of_triple(record, result)
        if isinstance(result, list):
            return [_of_triple(record, each) for each in result]
        raise TypeError(
            f"returned {type(result).__name__} for {record.coords!r}: return (coords, data, metadata), a list of "
            "such tuples, or None"
        )

    return call


def _listed(result: Any) -> Any:
    return list(result) if isinstance(result, Iterator) else result


def _of_triple(record: Record, triple: Any) -> Record:
    if not isinstance(triple, tuple) or len(triple) != 3:
        raise TypeError(f"returned {triple!r:.80} for {record.coords!r}: return (coords, data, metadata)")
    coords, data, metadata = triple
    if not isinstance(coords, DataCoordinates):
        coords = DataCoordinates(coords)
    return _replace(record, coords=coords, data=data, metadata=metadata)


def _own(record: Record) -> Record:
    """Return the record with an array that may be written to: itself, or with a copy if others hold the array."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(record.data, numpy.ndarray) and not record.data.flags.writeable:
        return record.replace(data=record.data.copy())
    return record
