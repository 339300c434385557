"""RemoteSource: the proxy of a source that works in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from penstock.compose.resolve import ResolvedNode
from penstock.errors import CodecError, EndOfSource, SourceError, WorkerDiedError
from penstock.record import Record
from penstock.report.counters import Counters
from penstock.run.context import RunContext
from penstock.run.process.asking.worker_process import WorkerProcess
from penstock.run.process.error_data import error_from_data
from penstock.source import (
    SupportsCommit,
    SupportsDrop,
    SupportsLag,
    SupportsLagSeconds,
    SupportsLoss,
    SupportsRejected,
    SupportsSeek,
)


class RemoteSource:
    """The proxy of a source in another process.

    If the process dies, `read` raises a SourceError, and the run reopens this object, by its policy: another process
    begins where the source begins, or at the last position if it can seek. Records that the dead process had read and
    not sent are lost then, unless the source can be read again.
    """

    gives: ClassVar[str] = "any"
    stays_valid: ClassVar[bool] = True  # it has crossed from another process

    def __init__(self, resolved: ResolvedNode, run: RunContext, counters: Counters) -> None:
        self._place = WorkerProcess(resolved, run)
        self._tally = counters
        self._died = False
        self._state: Mapping[str, Any] = {}
        self._refused: list[tuple[Record, BaseException]] = []

    def open(self) -> None:
        """Start the process, and make and open the source there."""
        self._tally.restarts += self._died
        self._died = False
        self._state = self._place.open()

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Read in the process."""
        try:
            answer = self._place.ask("read", max_records=max_records, timeout_s=timeout_s)
            if answer.missing:
                self._refused += self._described(answer.missing)
        except WorkerDiedError as error:
            self._died = True
            raise SourceError(str(error)) from error
        self._state = answer.words
        if "end" in answer.words:
            raise EndOfSource(answer.words["end"])
        return answer.records

    def take_refused(self) -> list[tuple[Record, BaseException]]:
        """Return the records of the last `read` that could not be sent, as far as possible, with the errors."""
        refused, self._refused = self._refused, []
        return refused

    def _described(self, missing: Mapping[int, str]) -> list[tuple[Record, BaseException]]:
        """Return the parts of records that can be sent when the whole cannot. Raises what `ask` raises, SourceError."""
        answer = self._place.ask("describe", missing=[[place, reason] for place, reason in missing.items()])
        reasons = list(missing.values())
        if answer.missing:
            raise SourceError(
                f"{self._place.resolved.where}: {len(missing)} records cannot be sent from its process: {reasons[0]}",
                retryable=False,
            )
        return [
            (record, CodecError(f"it cannot be sent from its process: {reason}"))
            for record, reason in zip(answer.records, reasons, strict=True)
        ]

    def _figure(self, name: str) -> Any:
        """Return the value from the source's last answer. Raises the error that the source raised for it."""
        error = self._state.get("errors", {}).get(name)
        if error is not None:
            raise error_from_data(error)
        return self._state[name]

    def close(self) -> None:
        """Close the source and end the process."""
        self._place.close()


class _Commits(RemoteSource):
    def position(self) -> Any:
        return self._figure("position")

    def commit(self, position: Any) -> None:
        if not self._place.is_open:  # it died after its end, or between two reads
            self.open()
        self._place.ask("commit", position=position)


class _Seeks(RemoteSource):
    def seek(self, position: Any) -> None:
        self._state = self._place.ask("seek", position=position).words


class _Loses(RemoteSource):
    def lost_upstream(self) -> Mapping[str, int]:
        return dict(self._figure("lost_upstream"))


class _Drops(RemoteSource):
    def dropped_upstream(self) -> Mapping[str, int]:
        return dict(self._figure("dropped_upstream"))


class _Rejects(RemoteSource):
    def rejected(self) -> int:
        return int(self._figure("rejected"))


class _Lags(RemoteSource):
    def lag(self) -> int:
        return int(self._figure("lag"))


class _LagsSeconds(RemoteSource):
    def lag_s(self) -> float:
        return float(self._figure("lag_s"))


_ABILITIES = (
    (SupportsCommit, _Commits),
    (SupportsSeek, _Seeks),
    (SupportsLoss, _Loses),
    (SupportsDrop, _Drops),
    (SupportsRejected, _Rejects),
    (SupportsLag, _Lags),
    (SupportsLagSeconds, _LagsSeconds),
)


def remote_source(resolved: ResolvedNode, run: RunContext, counters: Counters) -> RemoteSource:
    """Return the proxy of a source in a process of its own, with its abilities."""
    kinds = tuple(kind for ability, kind in _ABILITIES if isinstance(resolved.sample, ability))
    made: RemoteSource = type("RemoteSource", kinds or (RemoteSource,), {})(resolved, run, counters)
    return made
