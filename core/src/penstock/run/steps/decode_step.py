"""DecodeStep: a decoder in a lane, one instance for each channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from penstock.component import Remark, SupportsRemarks
from penstock.compose.resolve import ResolvedNode
from penstock.decoder import CHANNEL_ENDS, SupportsRest, SupportsSkipped, SupportsThinned
from penstock.processor import SupportsHeld
from penstock.record import Record
from penstock.report.counters import Counters
from penstock.run.context import RunContext
from penstock.run.source_reports import as_remarks
from penstock.run.steps.idle_channels import IdleChannels
from penstock.run.steps.naming import Naming
from penstock.run.steps.step import Step, only_records


class DecodeStep(Step):
    """A decoder: one instance for each channel, made with the channel's first record."""

    def __init__(self, resolved: ResolvedNode, run: RunContext, counters: Counters | None = None) -> None:
        super().__init__(resolved, run, counters)
        self._decoders: dict[str, Any] = {}
        self._keeps = isinstance(resolved.sample, SupportsHeld)
        own = getattr(resolved.sample, "own_identity", False)
        self._naming = None if own else Naming(resolved.where, run.trouble)
        rest_s = getattr(resolved.sample, "idle_rest_s", None) if isinstance(resolved.sample, SupportsRest) else None
        close_s = getattr(resolved.sample, "idle_close_s", None)
        self.clocked = rest_s is not None or close_s is not None
        self._idle = IdleChannels(rest_s=rest_s, close_s=close_s)
        self._skipped: dict[str, int] | None = {} if isinstance(resolved.sample, SupportsSkipped) else None
        self._thinned: dict[str, int] | None = {} if isinstance(resolved.sample, SupportsThinned) else None
        self._remarks = isinstance(resolved.sample, SupportsRemarks)
        self._told: dict[str, tuple[Remark, ...]] = {}

    def open(self) -> None:
        """Do nothing: the channels are not known yet."""

    def _decoder(self, channel: str) -> Any:
        made = self._decoders.get(channel)
        if made is None:
            made = self.resolved.make()
            if callable(getattr(made, "open", None)):
                made.open()
            self._decoders[channel] = made
        return made

    def run(self, records: Sequence[Record]) -> list[Record]:
        """Pass each packet to the decoder of its channel."""
        given: list[Record] = []
        counters = self.counters
        counters.records_in += len(records)
        if self.clocked:
            self._idle.used({record.channel for record in records})
        for record in self._begin(records):
            ends = CHANNEL_ENDS in record.metadata and bool(record.metadata[CHANNEL_ENDS])
            try:
                frames = [] if ends and record.data is None else self._decode(record)
            except BaseException as error:  # a decoder's library may raise anything: only this packet fails
                if self.error_policy.is_abort(error):
                    raise
                again = self._retry(record, error)
                if again is None:
                    if ends:
                        given.extend(self._end_channel(record.channel))
                    continue
                frames = again
            thinned = self._newly_thinned(record.channel) if self._thinned is not None else 0
            if frames:
                given.extend(frames)
                counters.passed += 1
                counters.extra += len(frames) - 1
            elif thinned:
                counters.thinned[record.channel] += 1
                thinned -= 1
            elif self._keeps and not (self._skipped is not None and self._has_skipped(record.channel)):
                counters.buffered += 1
            else:
                counters.discarded[record.channel] += 1
            if thinned:
                counters.count_buffered_as(counters.thinned, record.channel, thinned)
            if ends:
                given.extend(self._end_channel(record.channel))
        if self._remarks:
            for channel in {record.channel for record in records}:
                if (decoder := self._decoders.get(channel)) is not None:
                    self._hear(channel, decoder)
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
            return self.error_policy.again(lambda: self._decode(record), error)
        except BaseException as last:  # as in run
            if self.error_policy.is_abort(last):
                raise
            self.error_policy.give_up(record, last, self.error_policy.tries(last))
            return None

    def _hear(self, channel: str, decoder: Any) -> None:
        """Put what a decoder reports now in the place of what it reported before."""
        now, before = as_remarks(decoder.remarks()), self._told.get(channel, ())
        if now != before:
            self._told[channel] = now
            others = [remark for each in self._told.values() for remark in each]
            self.counters.replace_remarks(before, others)

    def _has_skipped(self, channel: str) -> bool:
        """Return whether the decoder has skipped packets since the last call: they are discarded, not buffered."""
        return self._newly_skipped(channel) > 0

    def _newly_skipped(self, channel: str) -> int:
        """Return how many packets of a channel the decoder has skipped since the last call."""
        assert self._skipped is not None
        return self._newly(channel, "skipped", self._skipped)

    def _newly_thinned(self, channel: str) -> int:
        """Return how many packets of a channel the decoder has thinned out since the last call."""
        assert self._thinned is not None
        return self._newly(channel, "thinned", self._thinned)

    def _newly(self, channel: str, what: str, known: dict[str, int]) -> int:
        before, now = known.get(channel, 0), getattr(self._decoders.get(channel), what, 0)
        known[channel] = now
        return int(now - before)

    def _end_channel(self, channel: str) -> list[Record]:
        """Close a channel, and count the last results of its decoder as `extra`."""
        frames = self._close(channel)
        self.counters.extra += len(frames)
        return frames

    def _close(self, channel: str) -> list[Record]:
        """Flush and close the decoder of a channel, if it has one; return its last results."""
        frames = self._flushed(channel) if channel in self._decoders else []
        decoder = self._decoders.pop(channel, None)
        self._idle.forget(channel)
        for counts in (self._skipped, self._thinned):
            if counts is not None:
                counts.pop(channel, None)
        if decoder is not None:
            self.close_component(decoder)
        return frames

    def _flushed(self, channel: str) -> list[Record]:
        decoder = self._decoders[channel]
        held = self._held([decoder])
        try:
            frames = only_records(decoder.flush(), "flush")
            if self._thinned is not None:
                self.counters.count_buffered_as(self.counters.thinned, channel, self._newly_thinned(channel))
            if self._skipped is not None:
                self.counters.count_buffered_as(self.counters.discarded, channel, self._newly_skipped(channel))
            if self._remarks:
                self._hear(channel, decoder)
            return frames if self._naming is None else self._naming.frames(None, frames)
        except BaseException as error:  # one channel's end must not cost another's
            self.error_policy.fail_late("flush", error)
            self.give_up_held(held.values(), error)
            return []

    def wait_s(self) -> float | None:
        """Return the seconds until an idle channel's decoder is to rest or to be closed."""
        return self._idle.wait_s()

    def expire(self) -> list[Record]:
        """Close the decoders of channels that are over, and rest those of idle ones; return their last results."""
        given = [frame for channel in self._idle.to_close() for frame in self._end_channel(channel)]
        for channel in self._idle.to_rest():
            decoder = self._decoders.get(channel)
            if decoder is not None:
                try:
                    decoder.rest()
                except BaseException as error:  # the decoder stays at work as it is
                    self.error_policy.fail_late("rest", error)
        return given

    def flush(self) -> list[Record]:
        """Return the last results of the decoders, channel by channel."""
        given = [frame for channel in self._decoders for frame in self._flushed(channel)]
        self.counters.extra += len(given)
        return given

    def held(self) -> dict[int, Record]:
        """Return the records that the decoders report as held."""
        return self._held(self._decoders.values())

    def _held(self, decoders: Iterable[Any]) -> dict[int, Record]:
        if not self._keeps:
            return {}
        try:
            return {id(record): record for made in decoders for record in made.held()}
        except BaseException as error:  # as in run; nothing is known of the records inside
            self.error_policy.fail_held(error)
            return {}

    def close(self) -> None:
        """Close all of them."""
        for decoder in self._decoders.values():
            self.close_component(decoder)
