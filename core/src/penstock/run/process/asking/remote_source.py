"""RemoteSource: the proxy of a source that works in a process of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from penstock.compose.resolve import ResolvedNode
from penstock.errors import CodecError, EndOfSource, SourceError, WorkerDiedError
from penstock.record import Record
from penstock.report.counters import Counters
from penstock.run.context import RunContext
from penstock.run.process.asking.worker_process import WorkerProcess
from penstock.run.process.error_data import error_from_data
from penstock.run.source_reports import POSITIONS, REPORTS
from penstock.source import (
    SupportsCommit,
    SupportsDurable,
    SupportsEndSoon,
    SupportsGivenUp,
    SupportsKeep,
    SupportsSeek,
)


class RemoteSource:
    """The proxy of a source in another process.

    If the process dies, `read` raises a SourceError, and the run reopens this object, by its policy: another process
    begins where the source begins, or at the last position if it can seek. Records that the dead process had read and
    not sent are lost then, unless the source can be read again.
    """

    gives: ClassVar[str] = "any"
    stays_valid: ClassVar[bool] = True  # its memory was received from another process

    def __init__(self, resolved: ResolvedNode, run: RunContext, counters: Counters) -> None:
        self._worker = WorkerProcess(resolved, run)
        self._counters = counters
        self._died = False
        self._state: Mapping[str, Any] = {}
        self._refused: list[tuple[Record, BaseException]] = []

    def open(self) -> None:
        """Start the process, and make and open the source there."""
        self._counters.restarts += self._died
        self._died = False
        self._state = self._worker.open()

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Read in the process."""
        try:
            answer = self._worker.ask("read", max_records=max_records, timeout_s=timeout_s)
            if answer.missing:
                self._refused += self._described(answer.missing)
        except WorkerDiedError as error:
            self._died = True
            raise SourceError(str(error)) from error
        self._state = answer.words
        if answer.words.get("refused"):
            self._refused += self._reasoned()
        if "end" in answer.words:
            raise EndOfSource(answer.words["end"])
        return answer.records

    def take_refused(self) -> list[tuple[Record, BaseException]]:
        """Return the messages that the source refused, and the records of the last `read` that could not be sent."""
        if "take_refused" in self._state.get("errors", {}):
            self._reported("take_refused")
        refused, self._refused = self._refused, []
        return refused

    def _reasoned(self) -> list[tuple[Record, BaseException]]:
        """Return the messages that the source refused in its last `read`, as far as they can be sent."""
        answer = self._worker.ask("refused")
        reasons = [error_from_data(reason) for reason in answer.words["reasons"]]
        whole = [(record, reasons[place]) for place, record in zip(answer.places, answer.records, strict=True)]
        return [*whole, *(self._described(answer.missing) if answer.missing else ())]

    def _described(self, missing: Mapping[int, str]) -> list[tuple[Record, BaseException]]:
        """Return the parts of records that can be sent when the whole cannot. Raises what `ask` raises, SourceError."""
        answer = self._worker.ask("describe", missing=[[place, reason] for place, reason in missing.items()])
        reasons = list(missing.values())
        if answer.missing:
            raise SourceError(
                f"{self._worker.resolved.where}: {len(missing)} records cannot be sent from its process: {reasons[0]}",
                retryable=False,
            )
        return [
            (record, CodecError(f"it cannot be sent from its process: {reason}"))
            for record, reason in zip(answer.records, reasons, strict=True)
        ]

    def _reported(self, name: str) -> Any:
        """Return the value from the source's last answer. Raises the error that the source raised for it."""
        error = self._state.get("errors", {}).get(name)
        if error is not None:
            raise error_from_data(error)
        return self._state[name]

    def close(self) -> None:
        """Close the source and end the process."""
        try:
            self._worker.close()
        finally:
            self._state = {**self._state, **self._worker.last_words}

    def _tell(self, call: str, **words: Any) -> None:
        """Call a method of the source that returns nothing."""
        self._state = self._worker.ask(call, **words).words


class _Commits(RemoteSource):
    def commit(self, position: Any) -> None:
        if not self._worker.is_open:  # it died after its end, or between two reads
            self.open()
        self._tell("commit", position=position)


class _HearsOfDurable(RemoteSource):
    def durable(self, position: Any) -> None:
        if self._worker.is_open:  # otherwise the source that returned these records no longer exists
            self._tell("durable", position=position)


class _HearsOfGivenUp(RemoteSource):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._given_up: deque[str] = deque()

    def given_up(self, channel: str) -> None:
        self._given_up.append(channel)  # from any thread; the one that reads tells the source

    def durable(self, position: Any) -> None:
        while self._given_up and self._worker.is_open:
            self._tell("given_up", channel=self._given_up.popleft())
        super().durable(position)  # type: ignore[misc]  # a source without it never has this called


class _Seeks(RemoteSource):
    def seek(self, position: Any) -> None:
        self._tell("seek", position=position)


class _Keeps(RemoteSource):
    def to_keep(self, position: Any) -> Any:
        return self._worker.ask("to_keep", position=position).words["kept"] if self._worker.is_open else position


class _EndsSoon(RemoteSource):
    _is_ending = False

    def open(self) -> None:
        super().open()
        self._is_ending = False

    def end_soon(self) -> None:
        self._is_ending = True  # from any thread; the one that reads tells the source

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        if self._is_ending:
            self._is_ending = False
            try:
                self._tell("end_soon")
            except WorkerDiedError as error:
                self._died = True
                raise SourceError(str(error)) from error
        return super().read(max_records, timeout_s)


_CALLS = (
    (SupportsCommit, _Commits),
    (SupportsGivenUp, _HearsOfGivenUp),
    (SupportsDurable, _HearsOfDurable),
    (SupportsSeek, _Seeks),
    (SupportsKeep, _Keeps),
    (SupportsEndSoon, _EndsSoon),
)


def remote_source(resolved: ResolvedNode, run: RunContext, counters: Counters) -> RemoteSource:
    """Return the proxy of a source in a process of its own, with its abilities."""
    sample = resolved.sample
    kinds = tuple(kind for ability, kind in _CALLS if isinstance(sample, ability))
    names = [name for ability, name in POSITIONS if isinstance(sample, ability)][:1]
    names += [report.method for report in REPORTS.values() if isinstance(sample, report.ability)]
    methods = {name: _returning(name) for name in names}
    made: RemoteSource = type("RemoteSource", kinds or (RemoteSource,), methods)(resolved, run, counters)
    return made


def _returning(name: str) -> Callable[[RemoteSource], Any]:
    return lambda source: source._reported(name)
