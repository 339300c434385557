"""DecodeStep: a decoder in a lane, one instance for each channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from penstock.compose.resolve import Part
from penstock.processor import SupportsHeld
from penstock.record import Record
from penstock.report.counters import Tally
from penstock.run.context import RunContext
from penstock.run.steps.naming import Naming
from penstock.run.steps.step import Step, only_records


class DecodeStep(Step):
    """A decoder: one instance for each channel, made when the channel first comes."""

    def __init__(self, part: Part, run: RunContext, tally: Tally | None = None) -> None:
        super().__init__(part, run, tally)
        self._decoders: dict[str, Any] = {}
        self._keeps = isinstance(part.sample, SupportsHeld)
        own = getattr(part.sample, "own_identity", False)
        self._naming = None if own else Naming(part.where, run.trouble)

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
        for record in self._begin(records):
            try:
                frames = self._decode(record)
            except BaseException as error:  # a library under the decoder may raise anything: it costs one packet
                if self.guard.is_abort(error):
                    raise
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
                tally.discarded[record.channel] += 1
        self._end()
        return given

    def _decode(self, record: Record) -> list[Record]:
        decoder = self._decoder(record.channel)
        if record.discontinuity:
            decoder.reset()
        frames = only_records(decoder.decode(record), "decode")
        return frames if self._naming is None else self._naming.frames(record, frames)

    def _retry(self, record: Record, error: BaseException) -> list[Record] | None:
        try:
            return self.guard.again(lambda: self._decode(record), error)
        except BaseException as last:  # as in run
            if self.guard.is_abort(last):
                raise
            self.guard.give_up(record, last, self.guard.tries(last))
            return None

    def flush(self) -> list[Record]:
        """Return what the decoders still have, channel by channel."""
        given: list[Record] = []
        for decoder in self._decoders.values():
            held = self._held([decoder])
            try:
                frames = only_records(decoder.flush(), "flush")
                given.extend(frames if self._naming is None else self._naming.frames(None, frames))
            except BaseException as error:  # one channel's end must not cost another's
                self.guard.fail_late("flush", error)
                self.give_up_held(held.values(), error)
        self.tally.extra += len(given)
        return given

    def held(self) -> dict[int, Record]:
        """Return what the decoders say that they keep."""
        return self._held(self._decoders.values())

    def _held(self, decoders: Iterable[Any]) -> dict[int, Record]:
        if not self._keeps:
            return {}
        try:
            return {id(record): record for made in decoders for record in made.held()}
        except BaseException as error:  # as in run; who knows what is inside
            self.guard.fail_held(error)
            return {}

    def close(self) -> None:
        """Close all of them."""
        for decoder in self._decoders.values():
            self.close_component(decoder)
