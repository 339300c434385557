"""Seen: recent records of one partition of a link, to remove duplicates and to detect the end."""

from __future__ import annotations

from typing import Any

from penstock.record import Record
from penstock_kafka_av.kafka.link.mark import Mark

Name = tuple[str, int]


class Seen:
    """The newest records of a partition by channel and number, and the openings of stores that produced into it.

    Attributes:
        begun: The offset of the first message read.
        next: The offset after the last message read.
        is_filled: Whether the messages before `begun` have been read too, as far back as needed.
    """

    def __init__(self, begun: int, *, remember: int) -> None:
        self.begun = self.next = begun
        self.is_filled = begun == 0
        self._remember = remember
        self._records: dict[Name, tuple[Mark, int]] = {}
        self._latest: dict[str, int] = {}
        self._openings: dict[int, bool] = {}
        """Whether each opening has ended, in order of appearance."""

    def needs_filling(self, mark: Mark) -> bool:
        """Return whether this message may repeat one from before `begun`: its store was opened recently."""
        if self.is_filled:
            return False
        if self._openings:
            return mark.opening not in self._openings
        return mark.number < self._remember

    def note(self, mark: Mark) -> None:
        """Note the producer of a message, and the end of an opening."""
        if mark.opening not in self._openings:
            self._latest[mark.producer] = mark.opening
            self._openings[mark.opening] = False
        if mark.is_end:
            self._openings[mark.opening] = True

    def is_new(self, mark: Mark, record: Record) -> bool:
        """Remember a record; return False if an earlier opening, whose run did not end in order, produced it already.

        Records with the same channel and number are the same only if their times are equal, too: a camera restarts its
        count after a restart, and then gives old numbers to new records. With `replays`, times are ignored.
        """
        name = record.channel, record.seq
        known = self._records.get(name)
        if known is not None:
            before, time_ns = known
            if (
                before.opening != mark.opening
                and not self._openings.get(before.opening, False)
                and (
                    (time_ns == record.time_ns and time_ns > 0)
                    or (before.producer == mark.producer and before.replays and mark.replays)
                )
            ):
                return False
            del self._records[name]
        elif len(self._records) >= self._remember:
            del self._records[next(iter(self._records))]
        self._records[name] = mark, record.time_ns
        return True

    def fill(self, earlier: list[tuple[Mark, Record | None]]) -> None:
        """Insert messages from before `begun`, in order, before the known ones; an end mark has no record."""
        records, openings, latest = self._records, self._openings, self._latest
        self._records, self._openings, self._latest = {}, {}, {}
        for mark, record in earlier:
            self.note(mark)
            if record is not None:
                self.is_new(mark, record)
        for name, known in records.items():
            self._records.pop(name, None)
            self._records[name] = known
        for opening, has_ended in openings.items():
            self._openings[opening] = has_ended or self._openings.get(opening, False)
        for producer, opening in latest.items():
            if opening not in self._latest.values():
                self._latest[producer] = opening
        self.is_filled = True

    def has_ended(self, publishers: int) -> bool:
        """Return whether at least `publishers` stores were seen and the last opening of each has ended."""
        return len(self._latest) >= publishers and all(self._openings[each] for each in self._latest.values())


def text_or_bytes(value: Any) -> bytes:
    """Return the bytes of a header, which the source decodes to text if they are UTF-8."""
    return value.encode() if isinstance(value, str) else bytes(value)
