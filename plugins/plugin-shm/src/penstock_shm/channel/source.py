"""The source `shm`: reads records of other processes on this machine without copying."""

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

from penstock.arguments import checks_arguments
from penstock.errors import CodecError, EndOfSource, SourceError, StoreError
from penstock.record import Record
from penstock_shm.channel.blocks import unpack, warm_up
from penstock_shm.channel.bundle import MARK
from penstock_shm.channel.connection import Connection
from penstock_shm.channel.title import title
from penstock_shm.cleaning import sweep
from penstock_shm.directory import check_name
from penstock_shm.rendezvous import CONSUMER, LATEST, Endpoint, join
from penstock_shm.wire import pack_hello, send

_log = logging.getLogger(__name__)
_GREETING_S = 2.0
_LOOK_S = 0.05


def _channel_name(_: object, __: object, value: str) -> None:
    check_name(value, "shm: channel_name")


@checks_arguments
@attrs.define
class ShmSource:
    """Read the records written by `shm` stores with the same channel name.

    Arrays are read-only views of the producer's memory; nothing is copied. A record stays valid as long as it, or a
    view of its arrays, is referenced, even after `close` and after the producer's death. If consumers hold too much
    memory, the producer raises an error that names this process.

    Attributes:
        channel_name: Any text of 1 to 4096 bytes; all processes of one user with the same name share the channel.
        latest: Read only the newest record of each channel, and never make a producer wait. `dropped_upstream` counts
            skipped records, and the next record of that channel has `discontinuity`.
        until_end: Raise EndOfSource when at least one producer was attached and all have closed. If a producer dies,
            raise SourceError after its last record; a later `read` continues with the others. If False, the source
            waits for the next producer.
    """

    gives: ClassVar[str] = "any"
    exact_fields: ClassVar[bool] = True
    stays_valid: ClassVar[bool] = True  # the memory of a record is not reused before the record is released

    channel_name: str = attrs.field(validator=_channel_name)
    latest: bool = attrs.field(default=False, kw_only=True)
    until_end: bool = attrs.field(default=False, kw_only=True)
    _endpoint: Endpoint | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _pid: int = attrs.field(default=0, init=False, repr=False, eq=False)
    _connections: dict[int, Connection] = attrs.field(factory=dict, init=False, repr=False, eq=False)
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
        """Return a source for the far end of a link: it reports when the store has closed or died."""
        return cls(name, until_end=True)

    def open(self) -> None:
        """Join the channel: every record that a producer writes from now on is received.

        Raises:
            CannotConnectToStoreError: the system is not Linux, or the directory cannot be used.
        """
        if self._endpoint is not None:
            raise SourceError(f"shm source {self.channel_name!r}: is open already; close it first")
        sweep()
        warm_up()
        self._pid, self._ended, self._look_s, self._poll = os.getpid(), 0, 0.0, select.poll()
        self._ready.clear()
        self._broken.clear()
        self._lost.clear()
        self._skipped.clear()
        self._deaths.clear()
        self._endpoint = join(self.channel_name, LATEST if self.latest else CONSUMER)
        self._poll.register(self._endpoint.listener, select.POLLIN)
        for _, pid, sock in self._endpoint.met:
            connection = self._attach(Connection(sock, latest=self.latest))
            connection.producer_pid = pid
        self._await_greetings()

    def read(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Return up to `max_records` records in each producer's order, waiting up to `timeout_s` seconds for the first.

        Raises:
            EndOfSource: with `until_end`, when all producers have closed.
            SourceError: with `until_end`, a producer has died without closing (reading may continue); or this process
                was forked from the one that opened the source.
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
        """Leave the channel. Read records stay valid; unread ones are lost to this consumer."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is None or self._pid != os.getpid():
            return
        self._ready.clear()
        for connection in self._connections.values():
            connection.leave()
        self._connections.clear()
        endpoint.leave()

    def lost_upstream(self) -> Mapping[str, int]:
        """Return the number of records lost by the deaths of producers, by channel.

        The channels of a dead producer's unfinished records are unknown: they are counted for the channel of its last
        record.
        """
        return dict(self._lost)

    def dropped_upstream(self) -> Mapping[str, int]:
        """Return the number of records that `latest` skipped, by channel."""
        return dict(self._skipped)

    def lag(self) -> int:
        """Return the number of records that producers have begun to write and that have not been read here."""
        return len(self._ready) + sum(connection.unfinished() for connection in list(self._connections.values()))

    def producers(self) -> int:
        """Return the number of attached producers, as of the last `read`."""
        return sum(not (f.ended or f.dead) for f in list(self._connections.values()))

    def _check(self) -> None:
        if self._endpoint is None:
            raise SourceError(f"shm source {self.channel_name!r}: is not open; call open() first")
        if self._pid != os.getpid():
            raise SourceError(
                f"shm source {self.channel_name!r}: was opened in process {self._pid}, and this is its fork "
                f"{os.getpid()}; open a source of its own here, or start the process by 'spawn'"
            )

    def _attach(self, connection: Connection) -> Connection:
        with contextlib.suppress(OSError):  # the producer is gone; its messages can still be received
            send(connection.socket, pack_hello(pid=self._pid, title=title(), latest=self.latest))
        self._connections[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.POLLIN)
        return connection

    def _await_greetings(self) -> None:
        until_s = time.monotonic() + _GREETING_S
        waiting = list(self._connections.values())
        while waiting and (left_s := until_s - time.monotonic()) > 0:
            self._poll.poll(left_s * 1000)
            for connection in waiting:
                self._take(connection)
            waiting = [f for f in waiting if not (f.greeted or f.dead or f.ended)]

    def _gather(self, max_records: int) -> None:
        if len(self._ready) >= max_records:
            return
        if time.monotonic() >= self._look_s:
            self._wait(0.0)
        more = True
        while more and len(self._ready) < max_records:
            more = False
            for connection in list(self._connections.values()):
                # `unfinished` saves a system call that would find no more messages.
                more |= self._take(connection) and connection.unfinished() > 0
        if not self._ready:
            for connection in self._connections.values():
                connection.ask()

    def _wait(self, timeout_s: float) -> None:
        """Wait for a message from a producer or for a new producer, and accept new ones."""
        assert self._endpoint is not None
        listener = self._endpoint.listener
        self._look_s = time.monotonic() + _LOOK_S
        if any(descriptor == listener.fileno() for descriptor, _ in self._poll.poll(timeout_s * 1000)):
            try:
                while True:
                    sock, _ = listener.accept()
                    self._attach(Connection(sock, latest=self.latest))
            except BlockingIOError:
                pass
            except OSError as error:
                raise SourceError(
                    f"shm source {self.channel_name!r}: a producer cannot be accepted ({error.strerror}); ulimit -n"
                ) from error

    def _take(self, connection: Connection) -> bool:
        """Decode one block of this producer into `_ready`; return whether there was one."""
        try:
            got = connection.receive()
            if got is not None:
                message, view, outside = got
                if message.lost:
                    self._note(self._skipped, message.lost)
                records = unpack(view, message.count, message.indices, outside)
                if view[:8] == MARK:
                    connection.release(message.block)
                self._add(connection, records)
                return True
        except (CodecError, StoreError) as error:
            self._forget(connection)
            raise SourceError(f"shm source {self.channel_name!r}, producer {connection.name}: {error}") from error
        if connection.dead:
            self._on_producer_death(connection)
        elif connection.ended:
            self._ended += 1
            self._forget(connection)
        return False

    def _add(self, connection: Connection, records: list[Record]) -> None:
        connection.last_channel = records[-1].channel
        channels = {record.channel for record in records}
        connection.channels |= channels
        if self._broken:
            for channel in channels & self._broken:
                self._broken.discard(channel)
                index = next(i for i, record in enumerate(records) if record.channel == channel)
                records[index] = records[index].replace(discontinuity=True)
        self._ready.extend(records)

    def _note(self, missed: Counter[str], lost: Mapping[str, int]) -> None:
        for channel, count in lost.items():
            missed[channel] += count
            self._broken.add(channel)

    def _on_producer_death(self, connection: Connection) -> None:
        if not connection.greeted:  # the producer closed before it accepted this consumer: no record was promised
            self._forget(connection)
            return
        lost = connection.unfinished()
        if lost:
            self._note(self._lost, {connection.last_channel: lost})
        self._broken |= connection.channels
        death = f"producer {connection.name} died without closing; {lost} records that it had begun to write are lost"
        _log.warning("shm source %r: %s", self.channel_name, death)
        self._deaths.append(death)
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self._connections = {k: f for k, f in self._connections.items() if f is not connection}
        if connection.socket.fileno() >= 0:
            self._poll.unregister(connection.socket)
        connection.leave()

    def _raise_if_over(self) -> None:
        deaths, self._deaths = self._deaths, []
        if not self.until_end:
            return
        if deaths:
            raise SourceError(f"shm source {self.channel_name!r}: {'; '.join(deaths)}")
        if self._ended and not self._connections:
            raise EndOfSource(f"shm source {self.channel_name!r}: all producers have closed")
