"""Steps: a component at work inside a lane; one kind for each role that takes records."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from penstock.coords import DataCoordinates
from penstock.errors import RunAborted, StoreError
from penstock.part import Part
from penstock.processor import SupportsDeadline, SupportsFlush, SupportsHeld, SupportsRun
from penstock.record import Record
from penstock.run.guard import Guard, Ward
from penstock.run.tally import Tally, count_channels

_RECORDS = {Record}
_NOTHING = {type(None)}
_GIVEN_UP = object()
"""Stands for the result of a record that failed for good, and is counted already."""


class Step:
    """One component in a lane: it takes a list of records and gives one. Used by the thread of the lane only."""

    def __init__(self, part: Part, run: Ward, tally: Tally | None = None) -> None:
        self.part = part
        self.name = part.node.name or ""
        self.tally = tally or Tally()
        self.guard = Guard(part, self.tally, run)
        self._run = run
        self.clocked = False  # asked for every list of records, and isinstance with a protocol is slow

    def open(self) -> None:
        """Make and open the component."""
        raise NotImplementedError

    def run(self, records: Sequence[Record]) -> list[Record]:
        """Take these records and return what comes of them. Never raises for a record's sake."""
        raise NotImplementedError

    def flush(self) -> list[Record]:
        """Return what is still inside, at the end."""
        return []

    def held(self) -> dict[int, Record]:
        """Return the records inside whose result is not out, by identity."""
        return {}

    def wait_s(self) -> float | None:
        """Return the seconds until `expire` wants to be called."""
        return None

    def expire(self) -> list[Record]:
        """Return what is due."""
        return []

    def close(self) -> None:
        """Close the component; an error is noted, not raised: closing must not hide what came first."""


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
        kinds = set(map(type, results))
        if kinds == _RECORDS:
            self.tally.passed += len(results)
            return results
        if kinds == _NOTHING:
            self._count_empty(len(results))
            return []
        return self._sort(records, results)

    def _sort(self, records: Sequence[Record], results: Sequence[Any]) -> list[Record]:
        """Count what is neither one record for each nor nothing for each, and make it one list."""
        given: list[Record] = []
        empty = 0
        for record, result in zip(records, results, strict=True):
            if result is _GIVEN_UP:
                continue
            count = self._expand(record, result, given)
            if count:
                self.tally.passed += 1
                self.tally.extra += count - 1
            else:
                empty += 1
        self._count_empty(empty)
        return given

    def _count_empty(self, count: int) -> None:
        if self._keeps:
            self.tally.gathered += count
        else:
            self.tally.discarded += count

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
        return {id(record): record for record in self._made.held()} if self._keeps else {}

    def wait_s(self) -> float | None:
        """Ask the processor, if it has a clock."""
        return self._made.wait_s() if self.clocked else None

    def expire(self) -> list[Record]:
        """Let the processor give what is due."""
        return self._late("expire")

    def _late(self, method: str) -> list[Record]:
        try:
            given = list(getattr(self._made, method)())
        except Exception as error:  # a flush that raises must not keep what is behind it from ending
            _fail_late(self, method, error)
            return []
        self.tally.extra += len(given)
        return given

    def close(self) -> None:
        """Close the processor if it wants."""
        _close(self, self._made)


class DecodeStep(Step):
    """A decoder: one instance for each channel, made when the channel first comes."""

    def __init__(self, part: Part, run: Ward, tally: Tally | None = None) -> None:
        super().__init__(part, run, tally)
        self._decoders: dict[str, Any] = {}
        self._keeps = isinstance(part.sample, SupportsHeld)

    def open(self) -> None:
        """Do nothing: the channels are not known yet."""

    def _decoder(self, channel: str) -> Any:
        made = self._decoders.get(channel)
        if made is None:
            made = self.part.make()
            if callable(getattr(made, "open", None)):
                made.open()
            self._decoders[channel] = made
        return made

    def run(self, records: Sequence[Record]) -> list[Record]:
        """Give each packet to the decoder of its channel."""
        given: list[Record] = []
        tally = self.tally
        tally.taken += len(records)
        for record in records:
            try:
                if record.discontinuity:
                    self._decoder(record.channel).reset()
                frames = list(self._decoder(record.channel).decode(record))
            except RunAborted:
                raise
            except BaseException as error:  # a library under the decoder may raise anything: it costs one packet
                again = self._retry(record, error)
                if again is None:
                    continue
                frames = again
            if frames:
                given.extend(frames)
                tally.passed += 1
                tally.extra += len(frames) - 1
            elif self._keeps:
                tally.gathered += 1
            else:
                tally.discarded += 1
        return given

    def _retry(self, record: Record, error: BaseException) -> list[Record] | None:
        try:
            return self.guard.again(lambda: list(self._decoder(record.channel).decode(record)), error)
        except BaseException as last:  # as in run
            self.guard.give_up(record, last, self.guard.tries(last))
            return None

    def flush(self) -> list[Record]:
        """Return what the decoders still have, channel by channel."""
        given: list[Record] = []
        for decoder in self._decoders.values():
            try:
                given.extend(decoder.flush())
            except Exception as error:  # one channel's end must not cost another's
                _fail_late(self, "flush", error)
        self.tally.extra += len(given)
        return given

    def held(self) -> dict[int, Record]:
        """Return what the decoders say that they keep."""
        if not self._keeps:
            return {}
        return {id(record): record for made in self._decoders.values() for record in made.held()}

    def close(self) -> None:
        """Close all of them."""
        for decoder in self._decoders.values():
            _close(self, decoder)


class StoreStep(Step):
    """A store: write lists, and sync when a barrier passes."""

    def __init__(self, part: Part, run: Ward, tally: Tally | None = None) -> None:
        super().__init__(part, run, tally)
        self.store: Any = None
        self.synced = True
        self.ended = False

    def open(self) -> None:
        """Make and open the store."""
        self.store = self.part.make()
        self.store.open()

    def run(self, records: Sequence[Record]) -> list[Record]:
        """Write them; the bad ones go their way without their neighbours."""
        self.tally.taken += len(records)
        self.synced = False
        try:
            self.store.write(records)
        except RunAborted:
            raise
        except BaseException as error:  # a store may raise anything; the records are in our hands
            self._write_again(records, error)
        else:
            count_channels(self.tally.stored, records)
        return []

    def _write_again(self, records: Sequence[Record], error: BaseException) -> None:
        """Try again what was not written, in order: together first, then one by one, so that each has its own error."""
        self.guard.note(error)
        left = self._sort(records, error)
        while left:
            together = left
            try:
                self.guard.again(lambda batch=together: self._write(batch), error)  # type: ignore[misc]  # bound now
            except BaseException as last:  # as in run
                left = self._sort(together, last)
                if len(left) == len(together):
                    break
                error = last
            else:
                return
        for record in left:
            try:
                self._write([record])
            except BaseException as last:  # as in run
                self.guard.give_up(record, _own_error(record, last), self.guard.tries(last))

    def _write(self, records: Sequence[Record]) -> None:
        self.store.write(records)
        count_channels(self.tally.stored, records)

    def _sort(self, records: Sequence[Record], error: BaseException) -> list[Record]:
        """Count what was written in spite of an error, give up what no try can help; return what is left to try."""
        named = error.failed if isinstance(error, StoreError) else ()
        if not named:
            return list(records)
        causes: dict[int, list[BaseException]] = {}
        for record, cause in named:  # a record that came twice may have failed once
            causes.setdefault(id(record), []).append(cause)
        left: list[Record] = []
        written: list[Record] = []
        for record in records:
            if not causes.get(id(record)):
                written.append(record)
                continue
            cause = causes[id(record)].pop()
            if getattr(cause, "retryable", True) and getattr(error, "retryable", True):
                left.append(record)
            else:
                self.guard.give_up(record, cause)
        if written:
            count_channels(self.tally.stored, written)
        return left

    def sync(self, positions: Mapping[str, Any] | None = None) -> None:
        """Make everything written durable; with the positions of the sources if the store keeps them. Raises."""
        if self.synced and positions is None:
            return
        call: Callable[[], None] = self.store.sync
        if positions is not None:
            known = positions
            call = lambda: self.store.sync_with(known)  # noqa: E731 - one expression, like its neighbour
        try:
            call()
        except Exception as error:  # a full disk shows up here: it may be free again at the next try
            self.guard.note(error)
            self.guard.again(call, error)
        self.tally.syncs += 1
        self.synced = True

    def close(self) -> None:
        """Close the store, which syncs it."""
        _close(self, self.store)


def _own_error(record: Record, error: BaseException) -> BaseException:
    named = error.failed if isinstance(error, StoreError) else ()
    return next((cause for failed, cause in named if failed is record), error)


def _close(step: Step, component: Any) -> None:
    close = getattr(component, "close", None)
    if callable(close):
        try:
            close()
        except Exception as error:  # closing never hides the first error; the run reports this one too
            _fail_late(step, "close", error)


def _fail_late(step: Step, method: str, error: BaseException) -> None:
    step.guard.note(error)
    step.guard.fail_late(method, error)


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


def _of_triple(record: Record, triple: Any) -> Record:
    if not isinstance(triple, tuple) or len(triple) != 3:
        raise TypeError(f"returned {triple!r:.80} for {record.coords!r}: return (coords, data, metadata)")
    coords, data, metadata = triple
    if not isinstance(coords, DataCoordinates):
        coords = DataCoordinates(coords)
    return record.replace(coords=coords, data=data, metadata=metadata)


def _own(record: Record) -> Record:
    """Return the record with an array that may be written to: itself, or with a copy if others hold the array."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(record.data, numpy.ndarray) and not record.data.flags.writeable:
        return record.replace(data=record.data.copy())
    return record


def step_for(part: Part, run: Ward, tally: Tally | None = None) -> Step:
    """Make the step for a part; with the tally of another it goes on counting there."""
    kinds: dict[str, type[Step]] = {"decoder": DecodeStep, "processor": ProcessStep, "store": StoreStep}
    return kinds[part.node.role](part, run, tally)
