"""WorkerSource: runs a source in its worker process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.compose.resolve import ResolvedNode
from penstock.error_text import message_of
from penstock.errors import CodecError, EndOfSource
from penstock.link import Message
from penstock.record import Record
from penstock.run.process.error_data import error_to_data
from penstock.run.process.messages import SOURCE_FIGURES, Reply
from penstock.run.steps.salvage import salvaged


class WorkerSource:
    """Serve a source. Each answer includes its position, so that the run need not ask for it."""

    def __init__(self, resolved: ResolvedNode) -> None:
        self._source = resolved.make()
        self._given: Sequence[Record] = ()
        self._told = [name for ability, name in SOURCE_FIGURES.items() if isinstance(self._source, ability)]

    def open(self) -> Mapping[str, Any]:
        """Make and open the source."""
        self._source.open()
        return self._state()

    def calls(self) -> Mapping[str, Callable[[Message], Reply]]:
        """Return the calls that the run may make, by name."""
        return {"read": self._read, "describe": self._describe, "commit": self._commit, "seek": self._seek}

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _state(self) -> dict[str, Any]:
        """Return the values that the source reports; an error stands in for its value, and is raised on use."""
        state: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for name in self._told:
            try:
                value = getattr(self._source, name)()
                state[name] = dict(value) if isinstance(value, Mapping) else value
            except BaseException as error:  # a source may raise anything
                errors[name] = error_to_data(error)
        return {**state, "errors": errors}

    def _read(self, message: Message) -> Reply:
        try:
            records = self._source.read(message.words["max_records"], message.words["timeout_s"])
        except EndOfSource as end:
            return {**self._state(), "end": message_of(end)}, ()
        self._given = records
        return self._state(), records

    def _describe(self, message: Message) -> Reply:
        """Return the parts that can be sent of records of the last list that could not be sent."""
        missing = message.words["missing"]
        return {}, [salvaged(self._given[place], CodecError(reason)) for place, reason in missing]

    def _commit(self, message: Message) -> Reply:
        self._source.commit(message.words["position"])
        return {}, ()

    def _seek(self, message: Message) -> Reply:
        self._source.seek(message.words["position"])
        return self._state(), ()
