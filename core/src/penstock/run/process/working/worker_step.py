"""WorkerStep: runs a decoder or processor in its worker process, with the same step class as the run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from penstock.compose.resolve import ResolvedNode
from penstock.link import Message
from penstock.plugins import Plugins
from penstock.record import Record
from penstock.run.process.error_data import error_to_data
from penstock.run.process.messages import COUNTS, Reply
from penstock.run.process.results import pack_column, pack_results
from penstock.run.source_reports import remarks_to_data
from penstock.run.steps.make import step_for


class _WorkerContext:
    """The context of the step's error policy in this process: it collects the errors to send to the run."""

    aborting = False
    plugins = Plugins()
    handle = None  # components that act on a run are refused for a process

    def __init__(self) -> None:
        self.letters: list[tuple[Record, BaseException, int]] = []
        self.troubles: list[tuple[str, BaseException, bool]] = []

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # an abort ends the process

    def given_up(self, resolved: ResolvedNode, record: Record) -> None:
        """Do nothing: the run gives the record up when it receives the error."""

    def dead_letter(self, resolved: ResolvedNode, record: Record, error: BaseException, tries: int) -> None:
        self.letters.append((record, error, tries))

    def fail(self, message: str, error: BaseException) -> None:
        self.troubles.append((message, error, True))

    def trouble(self, message: str, error: BaseException) -> None:
        self.troubles.append((message, error, False))


class WorkerStep:
    """Serve a decoder or processor. The run numbers its records; those that the component holds are kept by number."""

    def __init__(self, resolved: ResolvedNode) -> None:
        self._context = _WorkerContext()
        self._step = step_for(resolved, self._context)
        self._kept: dict[int, Record] = {}

    def open(self) -> Mapping[str, Any]:
        """Make and open the component."""
        self._step.open()
        return {"clocked": self._step.clocked}

    def calls(self) -> Mapping[str, Callable[[Message], Reply]]:
        """Return the calls that the run may make, by name."""
        return {"run": self._run, "prime": self._prime, "flush": self._flush, "expire": self._expire}

    def close(self) -> None:
        """Close the component. Raises an error that its step recorded."""
        self._context.troubles.clear()
        self._step.close()
        for _, error, _ in self._context.troubles:
            raise error

    def last_words(self) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    def _run(self, message: Message) -> Reply:
        first = message.words["first"]

        def known() -> dict[int, Record]:
            return self._kept | {
                first + place: record for place, record in zip(message.places, message.records, strict=True)
            }

        return self._answer(lambda: self._step.run(message.records) if message.records else (), known, message)

    def _prime(self, message: Message) -> Reply:
        """Process the records of a dead process again; return only the results that it had not returned."""
        numbers = [message.words["numbers"][place] for place in message.places]
        known = dict(zip(numbers, message.records, strict=True))
        given = Counter(message.words["given"])
        number_of = {id(record): number for number, record in known.items()}

        def unseen() -> Sequence[Record]:
            left = []
            for result in self._step.run(message.records) if message.records else ():
                number = number_of.get(id(result.parent), -1)
                if given[number] > 0:
                    given[number] -= 1
                else:
                    left.append(result)
            return left

        return self._answer(unseen, lambda: known)

    def _flush(self, message: Message) -> Reply:
        return self._answer(self._step.flush, lambda: self._kept)

    def _expire(self, message: Message) -> Reply:
        return self._answer(self._step.expire, lambda: self._kept)

    def _answer(
        self,
        work: Callable[[], Iterable[Record]],
        numbered: Callable[[], dict[int, Record]],
        message: Message | None = None,
    ) -> Reply:
        """Do the work; return its results, with the numbers of records that are held or failed."""
        counters, context = self._step.counters, self._context
        before = [getattr(counters, field) for field in COUNTS]
        counters.discarded.clear()
        counters.thinned.clear()
        context.letters.clear()
        context.troubles.clear()
        results = list(work())
        inside = self._step.held()
        column = None
        if message is not None and not (message.missing or inside or self._kept or context.letters):
            column = pack_column(results, message.records)
        known = {} if column is not None else numbered()
        words, sent = ({"column": column}, []) if column is not None else pack_results(results, known)
        numbers = {id(record): number for number, record in known.items()} if inside else {}
        held = [numbers[key] for key in inside if key in numbers]
        self._kept = {number: known[number] for number in held}
        words |= {
            "counts": [getattr(counters, field) - count for field, count in zip(COUNTS, before, strict=True)],
            "discarded": dict(counters.discarded),
            "thinned": dict(counters.thinned),
            "remarks": remarks_to_data(counters.remarks),
            "letters": [
                (_number_of(record, known), error_to_data(error), tries) for record, error, tries in context.letters
            ],
            "troubles": [(text, error_to_data(error), fatal) for text, error, fatal in context.troubles],
            "held": held,
            "wait_s": self._step.wait_s() if self._step.clocked else None,
        }
        return words, sent


def _number_of(record: Record, known: Mapping[int, Record]) -> int:
    """Return the number of a record, which may be a copy with an array of its own (`in_place`)."""
    for number, each in known.items():
        if each is record or (each.seq == record.seq and each.metadata is record.metadata):
            return number
    raise KeyError(f"record {record.seq} of channel {record.channel!r} was not sent here")
