"""The source `shm`: records of other processes of this machine, read where they were written."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import ClassVar

import attrs

from penstock.errors import CodecError, EndOfSource, SourceError, StoreError
from penstock.record import Record
from penstock_shm.channel.blocks import unpack, warm_up
from penstock_shm.channel.feed import Feed
from penstock_shm.channel.producer import title
from penstock_shm.cleaning import sweep
from penstock_shm.place import check_name
from penstock_shm.rendezvous import CONSUMER, LATEST, Seat, join
from penstock_shm.wire import pack_hello, send

_log = logging.getLogger(__name__)
_GREETING_S = 2.0
_LOOK_S = 0.05


def _channel_name(_: object, __: object, value: str) -> None:
    check_name(value, "shm: channel_name")


@attrs.define
class ShmSource:
    """Read what the stores `shm` of the same channel name write.

    Arrays arrive read-only and lie in the memory that the producer wrote: nothing is copied. A record stays valid as
    long as it, or any view of its arrays, is referred to, also after `close` and after the producer's death. A
    producer runs out of memory if consumers hold too much; it then raises an error that names this process.

    Attributes:
        channel_name: Any text; whoever uses the same one (of the same user) is in the same channel.
        latest: Give the newest record of each channel only, and never make a producer wait. What is skipped is counted
            by `dropped_upstream`, and the next record of that channel is marked as a discontinuity.
        until_end: Raise EndOfSource when at least one producer has been there and all have closed. If one dies
            instead, raise SourceError after its last record; a later `read` goes on with the others. Without it
            the source waits for whoever comes next.
    """

    gives: ClassVar[str] = "any"
    exact_fields: ClassVar[bool] = True
    stays_valid: ClassVar[bool] = True  # until it is released: what was sent is not written to before

    channel_name: str = attrs.field(validator=[attrs.validators.instance_of(str), _channel_name])
    latest: bool = attrs.field(default=False, kw_only=True)
    until_end: bool = attrs.field(default=False, kw_only=True)
    _seat: Seat | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _pid: int = attrs.field(default=0, init=False, repr=False, eq=False)
    _feeds: dict[int, Feed] = attrs.field(factory=dict, init=False, repr=False, eq=False)
    _poll: select.poll = attrs.field(default=None, init=False, repr=False, eq=False)
    _ready: deque[Record] = attrs.field(factory=deque, init=False, repr=False, eq=False)
    _broken: set[str] = attrs.field(factory=set, init=False, repr=False, eq=False)
    _lost: Counter[str] = attrs.field(factory=Counter, init=False, repr=False, eq=False)
    _skipped: Counter[str] = attrs.field(factory=Counter, init=False, repr=False, eq=False)
    _deaths: list[str] = attrs.field(factory=list, init=False, repr=False, eq=False)
    _look_s: float = attrs.field(default=0.0, init=False, repr=False, eq=False)
    _ended: int = attrs.field(default=0, init=False, repr=False, eq=False)

    @classmethod
    def for_link(cls, name: str) -> ShmSource:
        """Return a source for the far end of a link: it says when the store has closed, or died."""
        return cls(name, until_end=True)

    def open(self) -> None:
        """Join the channel. Every record that a living producer writes from now on will come.

        Raises:
            CannotConnectToStoreError: not Linux, or the directory cannot be used.
        """
        if self._seat is not None:
            raise SourceError(f"shm source {self.channel_name!r}: is open already; close it first")
        sweep()
        warm_up()
        self._pid, self._ended, self._look_s, self._poll = os.getpid(), 0, 0.0, select.poll()
        self._ready.clear()
        self._broken.clear()
        self._lost.clear()
        self._skipped.clear()
        self._deaths.clear()
        self._seat = join(self.channel_name, LATEST if self.latest else CONSUMER)
        self._poll.register(self._seat.listener, select.POLLIN)
        for _, pid, connection in self._seat.met:
            feed = self._attach(Feed(connection, latest=self.latest))
            feed.producer_pid = pid
        self._await_greetings()

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return up to `max_records` records, in the order of each producer.

        Raises:
            EndOfSource: with `until_end`, when all producers have closed.
            SourceError: with `until_end`, when a producer has died without closing; reading may go on. Or the source
                belongs to the process that this one was forked from.
        """
        self._check()
        until_s = time.monotonic() + timeout_s
        while True:
            self._gather(max_records)
            if len(self._ready) <= max_records:
                records = list(self._ready)
                self._ready.clear()
            else:
                records = [self._ready.popleft() for _ in range(max_records)]
            if records:
                return records
            self._raise_if_over()
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return ()
            self._wait(left_s)

    def close(self) -> None:
        """Leave the channel. Records that were read stay valid; those that were not are lost to this consumer."""
        seat, self._seat = self._seat, None
        if seat is None or self._pid != os.getpid():
            return
        self._ready.clear()
        for feed in self._feeds.values():
            feed.leave()
        self._feeds.clear()
        seat.leave()

    def lost_upstream(self) -> Mapping[str, int]:
        """Return how many records were begun by producers that died, by channel.

        A dead producer does not say of which channels its unfinished records were: they count under the channel of
        its last record.
        """
        return dict(self._lost)

    def dropped_upstream(self) -> Mapping[str, int]:
        """Return how many records of each channel were skipped, since `latest` wants the newest only."""
        return dict(self._skipped)

    def lag(self) -> int:
        """Return how many records have been begun by producers and not been read here."""
        return len(self._ready) + sum(feed.unfinished() for feed in list(self._feeds.values()))

    def producers(self) -> int:
        """Return how many producers are attached, as far as `read` has seen."""
        return sum(not (f.ended or f.dead) for f in list(self._feeds.values()))

    def _check(self) -> None:
        if self._seat is None:
            raise SourceError(f"shm source {self.channel_name!r}: is not open; call open() first")
        if self._pid != os.getpid():
            raise SourceError(
                f"shm source {self.channel_name!r}: was opened in process {self._pid}, and this is its fork "
                f"{os.getpid()}; open a source of its own here, or start the process by 'spawn'"
            )

    def _attach(self, feed: Feed) -> Feed:
        with contextlib.suppress(OSError):  # it is gone; what it had sent is still to be received
            send(feed.connection, pack_hello(pid=self._pid, title=title(), latest=self.latest))
        self._feeds[feed.connection.fileno()] = feed
        self._poll.register(feed.connection, select.POLLIN)
        return feed

    def _await_greetings(self) -> None:
        until_s = time.monotonic() + _GREETING_S
        waiting = list(self._feeds.values())
        while waiting and (left_s := until_s - time.monotonic()) > 0:
            self._poll.poll(left_s * 1000)
            for feed in waiting:
                self._take(feed)
            waiting = [f for f in waiting if not (f.greeted or f.dead or f.ended)]

    def _gather(self, max_records: int) -> None:
        if len(self._ready) >= max_records:
            return
        if time.monotonic() >= self._look_s:
            self._wait(0.0)
        more = True
        while more and len(self._ready) < max_records:
            more = False
            for feed in list(self._feeds.values()):
                more |= self._take(feed)
        if not self._ready:
            for feed in self._feeds.values():
                feed.ask()

    def _wait(self, timeout_s: float) -> None:
        """Wait for a producer, old or new, to say something, and let new ones in."""
        assert self._seat is not None
        listener = self._seat.listener
        self._look_s = time.monotonic() + _LOOK_S
        if any(descriptor == listener.fileno() for descriptor, _ in self._poll.poll(timeout_s * 1000)):
            try:
                while True:
                    connection, _ = listener.accept()
                    self._attach(Feed(connection, latest=self.latest))
            except BlockingIOError:
                pass
            except OSError as error:
                raise SourceError(
                    f"shm source {self.channel_name!r}: a producer cannot be let in ({error.strerror}); ulimit -n"
                ) from error

    def _take(self, feed: Feed) -> bool:
        """Decode one block of this producer into `_ready`; return whether there was one."""
        try:
            got = feed.receive()
            if got is not None:
                message, lease = got
                if message.lost:
                    self._note(self._skipped, message.lost)
                records = unpack(memoryview(lease.data), message.count, message.indices)
                self._add(feed, records)
                return True
        except (CodecError, StoreError) as error:
            self._forget(feed)
            raise SourceError(f"shm source {self.channel_name!r}, producer {feed.name}: {error}") from error
        if feed.dead:
            self._mourn(feed)
        elif feed.ended:
            self._ended += 1
            self._forget(feed)
        return False

    def _add(self, feed: Feed, records: list[Record]) -> None:
        channels = {record.channel for record in records}
        feed.channels |= channels
        feed.last_channel = records[-1].channel
        for channel in channels & self._broken:
            self._broken.discard(channel)
            index = next(i for i, record in enumerate(records) if record.channel == channel)
            records[index] = records[index].replace(discontinuity=True)
        self._ready.extend(records)

    def _note(self, missed: Counter[str], lost: Mapping[str, int]) -> None:
        for channel, count in lost.items():
            missed[channel] += count
            self._broken.add(channel)

    def _mourn(self, feed: Feed) -> None:
        if not feed.greeted:  # it closed before it had let this side in: nothing was promised
            self._forget(feed)
            return
        lost = feed.unfinished()
        if lost:
            self._note(self._lost, {feed.last_channel: lost})
        self._broken |= feed.channels
        said = f"producer {feed.name} died without closing; {lost} records that it had begun are lost"
        _log.warning("shm source %r: %s", self.channel_name, said)
        self._deaths.append(said)
        self._forget(feed)

    def _forget(self, feed: Feed) -> None:
        self._feeds = {k: f for k, f in self._feeds.items() if f is not feed}
        if feed.connection.fileno() >= 0:
            self._poll.unregister(feed.connection)
        feed.leave()

    def _raise_if_over(self) -> None:
        deaths, self._deaths = self._deaths, []
        if not self.until_end:
            return
        if deaths:
            raise SourceError(f"shm source {self.channel_name!r}: {'; '.join(deaths)}")
        if self._ended and not self._feeds:
            raise EndOfSource(f"shm source {self.channel_name!r}: all producers have closed")
