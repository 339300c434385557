"""ProcessStep: a processor in a lane, called for each record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from operator import is_
from types import SimpleNamespace
from typing import Any

import msgspec

from penstock.compose.resolve import ResolvedNode
from penstock.fields import all_derived, all_exact, exact, like
from penstock.processor import SupportsDeadline, SupportsDiscarded, SupportsFlush, SupportsHeld, SupportsRun
from penstock.read_only import owned_value
from penstock.record import Record
from penstock.report.counters import Counters, count_channels
from penstock.run.context import RunContext
from penstock.run.steps.naming import Naming
from penstock.run.steps.results import as_records, is_one_each, listed, without_empty
from penstock.run.steps.step import Step, only_records, seconds_of
from penstock.user_function import PARTS, adapted, form_of, understood, works_in_place

_NOTHING: type = type(None)
_replace = msgspec.structs.replace
_ARRAYS: set[type] = set()
"""The class of arrays and its subclasses that have come so far: asking for a type's is quicker than `isinstance`."""
_GIVEN_UP = object()
"""The result of a record that failed for good, and is already counted."""


class ProcessStep(Step):
    """A processor: call it for each record."""

    def __init__(self, resolved: ResolvedNode, run: RunContext, counters: Counters | None = None) -> None:
        super().__init__(resolved, run, counters)
        self._made: Any = None
        self._call: Callable[[Record], Any] = lambda record: record
        self._function: Callable[[Record], Any] = self._call
        self._in_place = self._keeps = self._flushes = False
        self._discarded: dict[str, int] | None = None
        """The counts so far, by channel, of a processor that discards records later."""
        self._naming: Naming | None = Naming(resolved.where, run.trouble)

    @property
    def component(self) -> Any:
        """The processor."""
        return self._made

    def share_names(self, sibling: Step) -> None:
        """Renumber results whose name another worker has already used."""
        if self._naming is not None and isinstance(sibling, ProcessStep) and sibling._naming is not None:
            self._naming.share(sibling._naming)

    def open(self) -> None:
        """Make the processor, open it if it has `open`, and determine the form of its arguments."""
        self._made = self.resolved.make()
        in_place = works_in_place(self._made)
        of_parts = in_place and form_of(self._made) == PARTS
        self._in_place = in_place and not of_parts  # one that takes parts of a record needs only these to be writable
        self._call = self._function = adapted(self._made, own_data=_own_data if of_parts else None)
        if getattr(self._made, "own_identity", False):
            self._naming = None
        self._keeps = isinstance(self._made, SupportsHeld)
        self._flushes = isinstance(self._made, SupportsFlush)
        self._discarded = {} if isinstance(self._made, SupportsDiscarded) else None
        self.clocked = isinstance(self._made, SupportsDeadline)
        if isinstance(self._made, SupportsRun):
            self._made.bind(self._run.handle)
        if callable(getattr(self._made, "open", None)):
            self._made.open()

    def run(self, records: Sequence[Record]) -> list[Record]:
        """Call the processor for each record. Any error of a call affects only its own record."""
        self.counters.records_in += len(records)
        results: list[Any] = []
        todo = self._begin(records)
        if self._in_place:
            owned: list[Record] = []
            self._call_each_owned(records, todo, owned, results)
            if len(owned) == len(records):  # else the run is aborted
                records = like(records, owned)
        else:
            self._call_each(records, todo, results)
        self._end()
        given = self._finish(records, results)
        if self._discarded is not None:
            self._count_discarded(self._discarded)
        return given

    def _call_each(self, records: Sequence[Record], todo: Iterator[Record], results: list[Any]) -> None:
        call = self._call
        while True:
            try:
                for record in todo:  # not `map`, which would treat a StopIteration of `call` as the end of the list
                    results.append(call(record))  # faster than a bound `append`
                return
            except BaseException as error:  # any error of a user's function, SystemExit too: it affects one record
                if self.error_policy.is_abort(error):
                    raise
                results.append(self._retry(records[len(results)], error))

    def _call_each_owned(
        self, records: Sequence[Record], todo: Iterator[Record], owned: list[Record], results: list[Any]
    ) -> None:
        """Call the processor for each record, or for a copy that it may write to; note both in their order."""
        call, add, note = self._call, results.append, owned.append
        while True:
            try:
                for record in todo:
                    own = _own(record)
                    note(own)
                    add(call(own))
                return
            except BaseException as error:  # as above
                if self.error_policy.is_abort(error):
                    raise
                if len(owned) == len(results):
                    note(records[len(results)])
                add(self._retry(records[len(results)], error))

    def singly(self) -> tuple[Callable[[Record], Record] | None, Callable[[Record], Any]] | None:
        """Return the function that prepares a record for a call, or None, and the call; None if results need `run`.

        The caller counts the results by `count_ordinary`, or passes each to `finish_one`.
        """
        if self._discarded is not None or (self._naming is not None and not self._naming.keeps_all):
            return None
        return (_own if self._in_place else None), self._call

    def count_ordinary(self, records: Sequence[Record]) -> None:
        """Count records each of which had one result with its own name and valid fields."""
        self.counters.records_in += len(records)
        self.counters.passed += len(records)
        if self._naming is not None:
            self._naming.each(records, list(records), same=True)

    def finish_one(self, record: Record, result: Any, error: BaseException | None) -> list[Record]:
        """Count a record whose result is not ordinary, or whose call raised; return its results. Raises RunAborted."""
        self.counters.records_in += 1
        if error is not None:
            if self.error_policy.is_abort(error):
                raise error
            result = self._retry(record, error)
        self._end()
        return self._finish([record], [result])

    def _finish(self, records: Sequence[Record], results: list[Any]) -> list[Record]:
        """Count the results of these records, and return them with names and valid fields."""
        if results[0] is records[0] and results[-1] is records[-1] and all(map(is_, results, records)):
            return self._passed(records, records if isinstance(records, list) else results, same=True)
        kinds = list(map(type, results))  # twice as fast as a set
        if kinds.count(Record) == len(kinds):
            return self._name_each(records, results)
        if kinds.count(_NOTHING) == len(kinds):
            self._count_empty(records)
            return []
        found = set(kinds)
        if is_one_each(found):
            if _NOTHING in found:
                self._count_empty([record for record, kind in zip(records, kinds, strict=True) if kind is _NOTHING])
                records, results = without_empty(records, results)
            return self._name_each(records, as_records(records, results))
        if found == {list} and (several := listed(records, results)) is not None:
            given = several.records if self._naming is None else self._naming.expanded(several)
            if given is not None:
                self.counters.passed += len(several.parents)
                self.counters.extra += len(given) - len(several.parents)
                self._count_empty(several.empty)
                return given
        return self._sort(records, results)

    def _name_each(self, records: Sequence[Record], results: list[Record]) -> list[Record]:
        """Count one result for each of these records, and return them with names and proper fields."""
        derived = all_derived(results, records)
        if not derived and not all_exact(results):
            return self._sort(records, results)
        return self._passed(records, like(records, results) if derived else results, same=derived)

    def _passed(self, records: Sequence[Record], results: list[Record], *, same: bool) -> list[Record]:
        self.counters.passed += len(results)
        return results if self._naming is None else self._naming.each(records, results, same=same)

    def _sort(self, records: Sequence[Record], results: Sequence[Any]) -> list[Record]:
        """Count results that are neither one record for each input nor none, and return them as one list."""
        given: list[Record] = []
        empty: list[Record] = []
        for record, result in zip(records, results, strict=True):
            if result is _GIVEN_UP:
                continue
            try:
                expanded = self._expand(record, result)
            except BaseException as error:  # a user's generator or list raises only now
                if self.error_policy.is_abort(error):
                    raise
                again = self._retry(record, error, self._whole)
                if again is _GIVEN_UP:
                    continue
                expanded = again
            if expanded:
                given += expanded
                self.counters.passed += 1
                self.counters.extra += len(expanded) - 1
            else:
                empty.append(record)
        self._count_empty(empty)
        return given

    def _count_empty(self, records: Sequence[Record]) -> None:
        if self._keeps:
            self.counters.buffered += len(records)
        elif records:
            count_channels(self.counters.discarded, records)

    def _count_discarded(self, before: dict[str, int]) -> None:
        """Count records discarded since the last call, which were counted as buffered, as discarded."""
        try:
            now = dict(self._made.discarded)
            fresh = {channel: count - before.get(channel, 0) for channel, count in now.items()}
            before.update(now)
        except BaseException as error:  # as in run; these records stay in the account as buffered
            self.error_policy.fail_late("discarded", error)
            return
        for channel, count in fresh.items():
            self.counters.count_buffered_as(self.counters.discarded, channel, count)

    def _whole(self, record: Record) -> list[Record]:
        return self._expand(record, self._call(record))

    def _retry(self, record: Record, error: BaseException, call: Callable[[Record], Any] | None = None) -> Any:
        """Repeat the call as the policy says; return the result, or _GIVEN_UP for a record that failed for good."""
        try:
            own = _own if self._in_place else _as_it_is
            return self.error_policy.again(lambda: (call or self._call)(own(record)), error)
        except BaseException as last:  # as in run
            if self.error_policy.is_abort(last):
                raise
            self.error_policy.give_up(record, last, self.error_policy.tries(last))
            return _GIVEN_UP

    def _expand(self, record: Record, result: Any) -> list[Record]:
        """Return the result of a processor as records. Raises the errors of an iterator or a list of the user's."""
        if result is None:
            return []
        if isinstance(result, Iterator):  # a list is iterated later, within its own call
            self._call = lambda each: understood(each, self._function(each))
        meant = result if isinstance(result, Record) else understood(record, result)
        several = [meant] if isinstance(meant, Record) else [_record(record, item) for item in list(meant or ())]
        if not all_exact(several):
            several = [exact(each) for each in several]
        return several if self._naming is None or not several else self._naming.several(record, several)

    def flush(self) -> list[Record]:
        """Return the last results of the processor."""
        return self._late("flush") if self._flushes else []

    def held(self) -> dict[int, Record]:
        """Return the records that the processor reports as held."""
        if not self._keeps:
            return {}
        try:
            return {id(record): record for record in self._made.held()}
        except BaseException as error:  # as in run; nothing is known of the records inside
            self.error_policy.fail_held(error)
            return {}

    def wait_s(self) -> float | None:
        """Return the processor's `wait_s`, if it has one."""
        if not self.clocked:
            return None
        try:
            return seconds_of(self._made.wait_s())
        except BaseException as error:  # as in run; without a clock it still has its flush
            self.error_policy.fail_late("wait_s", error)
            return None

    def expire(self) -> list[Record]:
        """Return the results of the processor that are due."""
        return self._late("expire")

    def _late(self, method: str) -> list[Record]:
        held = self.held() if method == "flush" else {}
        try:
            given = only_records(getattr(self._made, method)(), method)
        except BaseException as error:  # a flush that raises must not prevent the end of the nodes behind it
            self.error_policy.fail_late(method, error)
            self.give_up_held(held.values(), error)
            return []
        self.counters.extra += len(given)
        if self._discarded is not None:
            self._count_discarded(self._discarded)
        return given if self._naming is None else self._naming.late(given)

    def close(self) -> None:
        """Close the processor, if it has `close`."""
        self.close_component(self._made)


def _as_it_is(record: Record) -> Record:
    return record


def _record(record: Record, item: Any) -> Record:
    return item if isinstance(item, Record) else record.replace(data=item)


def _own(record: Record) -> Record:
    """Return the record with writable data and metadata: copies of parts that are read-only or held by others."""
    known = record.metadata
    metadata = owned_value(known) if known else known
    data = _own_data(record)
    if data is record.data and metadata is known:
        return record
    return _replace(record, data=data, metadata=metadata)


def _own_data(record: Record) -> Any:
    """Return the data of a record, or a copy if they are read-only or held by others."""
    data = record.data
    if type(data) not in _ARRAYS:
        numpy: Any = sys.modules.get("numpy")
        if numpy is None or not isinstance(data, numpy.ndarray):
            return owned_value(data)
        _ARRAYS.add(type(data))
    if sys.getrefcount(data) > _ALONE or not data.flags.writeable or (data.base is not None and _has_shared_base(data)):
        return data.copy()
    return data


def _has_shared_base(view: Any) -> bool:
    """Return whether anything else refers to the memory that an array is a view of, as far as that is known."""
    numpy: Any = sys.modules["numpy"]
    return not isinstance(view.base, numpy.ndarray) or _count_of_base(view) > _ALONE_AS_BASE


def _count_of_data(record: Any) -> int:
    data = record.data
    return sys.getrefcount(data)


def _count_of_base(array: Any) -> int:
    return sys.getrefcount(array.base)


# The number of references that the call itself holds differs between versions of Python.
_ALONE = _count_of_data(Record(object()))
_ALONE_AS_BASE = _count_of_base(SimpleNamespace(base=object()))
