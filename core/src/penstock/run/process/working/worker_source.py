"""WorkerSource: runs a source in its worker process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from penstock.compose.resolve import ResolvedNode
from penstock.error_text import message_of
from penstock.errors import CodecError, EndOfSource
from penstock.link import Message
from penstock.record import Record
from penstock.run.process.error_data import error_to_data
from penstock.run.process.messages import Reply
from penstock.run.source_reports import POSITIONS, REPORTS, remarks_to_data
from penstock.run.steps.salvage import salvaged
from penstock.source import SupportsRefusal

_TEXTS_EVERY_S: Final = 1.0


class WorkerSource:
    """Serve a source. Each answer includes its position and all that it reports, so that the run need not ask."""

    def __init__(self, resolved: ResolvedNode) -> None:
        self._source = resolved.make()
        self._given: Sequence[Record] = ()
        self._refused: Sequence[tuple[Record, BaseException]] = ()
        self._takes_refused = isinstance(self._source, SupportsRefusal)
        self._position = next((name for ability, name in POSITIONS if isinstance(self._source, ability)), None)
        self._reports = [report for report in REPORTS.values() if isinstance(self._source, report.ability)]
        self._texts: dict[str, Any] = {}
        self._texts_at = -_TEXTS_EVERY_S

    def open(self) -> Mapping[str, Any]:
        """Make and open the source."""
        self._source.open()
        return self._state()

    def calls(self) -> Mapping[str, Callable[[Message], Reply]]:
        """Return the calls that the run may make, by name."""
        notifications = dict.fromkeys(("commit", "durable", "given_up", "seek", "end_soon"), self._notify)
        notifications["to_keep"] = lambda message: ({"kept": self._source.to_keep(message.words["position"])}, ())
        return {"read": self._read, "describe": self._describe, "refused": self._give_refused, **notifications}

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def last_words(self) -> Mapping[str, Any]:
        """Return the final values that the closed source reports."""
        return self._values_of([report.method for report in self._reports if report.is_final])

    def _state(self) -> dict[str, Any]:
        """Return the values that the source reports; an error replaces its value, and is raised on use."""
        quick = [report.method for report in self._reports if not report.is_text]
        state = self._values_of([*filter(None, [self._position]), *quick])
        if len(quick) < len(self._reports):
            now = time.monotonic()
            if now >= self._texts_at + _TEXTS_EVERY_S:
                self._texts = self._values_of([report.method for report in self._reports if report.is_text])
                self._texts_at = now
            errors = {**state["errors"], **self._texts["errors"]}
            state = {**state, **self._texts, "errors": errors}
        return state

    def _values_of(self, methods: Iterable[str]) -> dict[str, Any]:
        state: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for name in methods:
            try:
                value = getattr(self._source, name)()
                if name in REPORTS:
                    value = REPORTS[name].convert(value)
                state[name] = dict(value) if isinstance(value, Mapping) else value
                if name == "remarks":
                    state[name] = remarks_to_data(value)
            except BaseException as error:  # a source may raise anything
                errors[name] = error_to_data(error)
        return {**state, "errors": errors}

    def _read(self, message: Message) -> Reply:
        try:
            records = self._source.read(message.words["max_records"], message.words["timeout_s"])
        except EndOfSource as end:
            return self._with_refused({**self._state(), "end": message_of(end)}), ()
        self._given = records
        return self._with_refused(self._state()), records

    def _with_refused(self, state: dict[str, Any]) -> dict[str, Any]:
        """Add how many messages the source refused; the run asks for these."""
        if self._takes_refused:
            try:
                self._refused = list(self._source.take_refused())
                state["refused"] = len(self._refused)
            except BaseException as error:  # as above
                state["errors"]["take_refused"] = error_to_data(error)
        return state

    def _give_refused(self, message: Message) -> Reply:
        """Return the messages that the source refused in its last read, with the errors."""
        self._given = [record for record, _ in self._refused]
        return {"reasons": [error_to_data(error) for _, error in self._refused]}, self._given

    def _describe(self, message: Message) -> Reply:
        """Return the parts that can be sent of records of the last list that could not be sent."""
        missing = message.words["missing"]
        return {}, [salvaged(self._given[place], CodecError(reason)) for place, reason in missing]

    def _notify(self, message: Message) -> Reply:
        """Call the source's method of the same name, which returns nothing."""
        given = {name: value for name, value in message.words.items() if name != "call"}
        getattr(self._source, message.words["call"])(**given)
        return self._state(), ()
