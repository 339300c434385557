"""The same flows with ezmsg: a unit in each process, messages in its shared memory."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncGenerator
from typing import Any

import ezmsg.core as ez
import numpy as np

ROOM = 8 << 20
"""Bytes of a message's buffer for frames, so that none has to grow on the way."""


class Flow(ez.Settings):
    """What the source sends: `count` messages with these data, one each `pause_s` seconds."""

    count: int
    data: Any
    pause_s: float = 0.0


class Seen(ez.State):
    """When each message was sent and when it came, in ns of the monotonic clock."""

    sent: list[int]
    came: list[int]


class Give(ez.Unit):
    """Send messages, each with its number and the time."""

    SETTINGS = Flow
    OUTPUT = ez.OutputStream(tuple)

    async def initialize(self) -> None:
        """Give large messages the room that they need."""
        if isinstance(self.SETTINGS.data, np.ndarray):
            self.OUTPUT.buf_size = ROOM

    @ez.publisher(OUTPUT)
    async def give(self) -> AsyncGenerator[Any, None]:
        """Send."""
        await asyncio.sleep(0.5)  # until the others are there, which nothing tells
        due = time.monotonic()
        for number in range(self.SETTINGS.count):
            if self.SETTINGS.pause_s:
                due += self.SETTINGS.pause_s
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            yield self.OUTPUT, (number, time.monotonic_ns(), self.SETTINGS.data)


class Relay(ez.Unit):
    """Pass messages on."""

    INPUT = ez.InputStream(tuple)
    OUTPUT = ez.OutputStream(tuple, buf_size=ROOM)

    @ez.subscriber(INPUT)
    @ez.publisher(OUTPUT)
    async def relay(self, message: Any) -> AsyncGenerator[Any, None]:
        """Pass one on."""
        yield self.OUTPUT, message


class Keep(ez.Unit):
    """Note when messages come; the last ends the run."""

    SETTINGS = Flow
    STATE = Seen
    INPUT = ez.InputStream(tuple)

    async def initialize(self) -> None:
        """Start with nothing."""
        self.STATE.sent, self.STATE.came = [], []

    @ez.subscriber(INPUT)
    async def keep(self, message: Any) -> None:
        """Note one."""
        number, sent, data = message
        assert number == len(self.STATE.sent), "one was lost"
        assert len(data)
        self.STATE.sent.append(sent)
        self.STATE.came.append(time.monotonic_ns())
        if len(self.STATE.sent) == self.SETTINGS.count:
            raise ez.NormalTermination


def flow(data: Any, count: int, pause_s: float = 0.0, *, relayed: bool = False) -> tuple[list[int], list[int]]:
    """Send from a process of its own, through another one if relayed, to this one; return when each was sent and came.

    The sending process waits half a second before, for ezmsg does not tell when all are there.
    """
    settings = Flow(count, data, pause_s)
    give, relay, keep = Give(settings), Relay(), Keep(settings)
    units: dict[str, Any] = {"GIVE": give, "KEEP": keep}
    connections: tuple[Any, ...] = ((give.OUTPUT, keep.INPUT),)
    if relayed:
        units["RELAY"] = relay
        connections = ((give.OUTPUT, relay.INPUT), (relay.OUTPUT, keep.INPUT))
    others = tuple(unit for unit in units.values() if unit is not keep)
    with contextlib.redirect_stderr(io.StringIO()):
        ez.run(components=units, connections=connections, process_components=others)
    return keep.STATE.sent, keep.STATE.came
