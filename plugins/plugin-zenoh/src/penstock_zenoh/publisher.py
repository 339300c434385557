"""A publisher, as a source knows it: the numbers of its records that have arrived, and whether it is present."""

from __future__ import annotations

import attrs

from penstock_zenoh import wire


@attrs.define(eq=False)
class Publisher:
    """A store that publishes to this source, or (`id` "") all foreign publishers together.

    Attributes:
        id: Its id in the protocol.
        process: Its process, as messages name it.
        received: Running number up to which all of its records have arrived, as far as that is known.
        newest: Running number of the newest record that has arrived.
        taken: Running number of the newest record that the reader has taken.
        receipted: `taken` in the last receipt, and the number of records and bytes taken since.
        lost: Number of its records that never arrived.
        next_numbers: The expected number of the next record on each key.
        last_numbers: The running number of the last record on each key.
        gaps: Keys whose next record does not continue the previous one although no record is missing.
        channels: The channel of the last record on each key, used for losses at the end of a key.
        waiting: Numbers of records and bytes that wait for the reader.
        mark: The mark that was answered last; `pending` is unanswered, since `pending_since` at `pending_at`.
        is_ended: It has announced its end.
        vanished_at: Monotonic time at which its token disappeared without an end; None while it is present.
        is_noticed: Its disappearance has been logged.
        is_returning: Its token has disappeared. Until it sends the missed records again, a record may arrive that was
            published after missed ones: `received` stays as it is, and a gap is not a loss.
    """

    id: str
    process: str = "an unknown process"
    received: int = 0
    newest: int = 0
    taken: int = 0
    taken_since: int = 0
    taken_bytes_since: int = 0
    lost: int = 0
    next_numbers: dict[str, int] = attrs.field(factory=dict)
    last_numbers: dict[str, int] = attrs.field(factory=dict)
    gaps: set[str] = attrs.field(factory=set)
    channels: dict[str, str] = attrs.field(factory=dict)
    waiting: int = 0
    waiting_bytes: int = 0
    mark: int = 0
    pending: wire.Mark | None = None
    pending_since: float = 0.0
    is_ended: bool = False
    vanished_at: float | None = None
    is_noticed: bool = False
    is_returning: bool = False

    def living_channels(self) -> set[str]:
        """Return its channels if it is present and has not ended."""
        return set() if self.is_ended or self.is_noticed else set(self.channels.values())

    def take_note(self, last: int, *, is_repeated: bool) -> None:
        """Note that a record of this running number has arrived, or has arrived again."""
        self.newest = max(self.newest, last)
        if not self.is_returning or is_repeated:
            self.is_returning = False
            self.received = max(self.received, last)

    def has_all_before(self, mark: wire.Mark) -> None:
        """Note a mark: if nothing was sent beyond the received records, none was missed."""
        if self.is_returning and mark.last <= self.received:
            self.is_returning = False
            self.received = max(self.received, self.newest)
