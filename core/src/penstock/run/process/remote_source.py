"""A source in a process of its own: what stands for it in the run, and what serves it there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from penstock.compose.resolve import Part
from penstock.error_text import message_of
from penstock.errors import EndOfSource, SourceError, WorkerDiedError
from penstock.link import Message
from penstock.record import Record
from penstock.report.counters import Tally
from penstock.run.context import RunContext
from penstock.run.process.served import Given
from penstock.run.process.told_error import error_of, tell_error
from penstock.run.process.workplace import Workplace
from penstock.source import SupportsCommit, SupportsDrop, SupportsLag, SupportsLoss, SupportsRejected, SupportsSeek


class RemoteSource:
    """Stand for a source in another process.

    If the process dies, `read` raises a SourceError, and the run opens this again, by its policy: another process
    begins where the source begins, or goes on where it was if it can seek. What the dead one had read and not handed
    over is lost then, unless the source can be asked again.
    """

    gives: ClassVar[str] = "any"
    stays_valid: ClassVar[bool] = True  # it has crossed from another process

    def __init__(self, part: Part, run: RunContext, tally: Tally) -> None:
        self._place = Workplace(part, run)
        self._tally = tally
        self._died = False
        self._state: Mapping[str, Any] = {}

    def open(self) -> None:
        """Start the process, and make and open the source there."""
        self._tally.restarts += self._died
        self._died = False
        self._state = self._place.open()

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Read there."""
        try:
            answer = self._place.ask("read", max_records=max_records, timeout_s=timeout_s)
        except WorkerDiedError as error:
            self._died = True
            raise SourceError(str(error)) from error
        self._state = answer.words
        if answer.missing:
            place, reason = next(iter(answer.missing.items()))
            raise SourceError(
                f"{self._place.part.where}: {len(answer.missing)} records cannot be sent from its process; the first, "
                f"number {place} of {len(answer.missing) + len(answer.records)}: {reason}",
                retryable=False,
            )
        if "end" in answer.words:
            raise EndOfSource(answer.words["end"])
        return answer.records

    def _figure(self, name: str) -> Any:
        """Return what the source said with its last answer. Raises what it raised when it was asked."""
        error = self._state.get("errors", {}).get(name)
        if error is not None:
            raise error_of(error)
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


_ABILITIES = (
    (SupportsCommit, _Commits, "position"),
    (SupportsSeek, _Seeks, ""),
    (SupportsLoss, _Loses, "lost_upstream"),
    (SupportsDrop, _Drops, "dropped_upstream"),
    (SupportsRejected, _Rejects, "rejected"),
    (SupportsLag, _Lags, "lag"),
)


def remote_source(part: Part, run: RunContext, tally: Tally) -> RemoteSource:
    """Return what stands for a source in a process of its own, with its abilities."""
    kinds = tuple(kind for ability, kind, _ in _ABILITIES if isinstance(part.sample, ability))
    made: RemoteSource = type("RemoteSource", kinds or (RemoteSource,), {})(part, run, tally)
    return made


class ServedSource:
    """Serve a source. Each answer says where it stands, so that the run need not ask."""

    def __init__(self, part: Part) -> None:
        self._source = part.make()
        self._told = [name for ability, _, name in _ABILITIES if name and isinstance(self._source, ability)]

    def open(self) -> Mapping[str, Any]:
        """Open it."""
        self._source.open()
        return self._state()

    def calls(self) -> Mapping[str, Callable[[Message], Given]]:
        """Return what the run may ask for."""
        return {"read": self._read, "commit": self._commit, "seek": self._seek}

    def close(self) -> None:
        """Close it."""
        self._source.close()

    def _state(self) -> dict[str, Any]:
        """Return what it says of itself; an error in one figure is told in its place, and raised where it is asked."""
        state: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for name in self._told:
            try:
                value = getattr(self._source, name)()
                state[name] = dict(value) if isinstance(value, Mapping) else value
            except BaseException as error:  # a source may raise anything
                errors[name] = tell_error(error)
        return {**state, "errors": errors}

    def _read(self, message: Message) -> Given:
        try:
            records = self._source.read(message.words["max_records"], message.words["timeout_s"])
        except EndOfSource as end:
            return {**self._state(), "end": message_of(end)}, ()
        return self._state(), records

    def _commit(self, message: Message) -> Given:
        self._source.commit(message.words["position"])
        return {}, ()

    def _seek(self, message: Message) -> Given:
        self._source.seek(message.words["position"])
        return self._state(), ()
