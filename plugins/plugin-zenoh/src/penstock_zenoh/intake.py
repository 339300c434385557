"""The path from zenoh's channel to the reader: the reader itself while it reads, else a thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import zenoh

from penstock_zenoh.arrivals import Arrival, Arrivals
from penstock_zenoh.publisher import Publisher

MOST_IN_CHANNEL = 256
"""Samples in the channel of zenoh, which knows no sizes: fewer cost a fifth more of the processor's time for small
samples, more hold too much memory if samples are large and the reader is slow."""
_BATCH = 256
_LOOK_EVERY_S = 0.05
_NOTICE_EVERY_S = 0.25


class Intake:
    """Take samples out of a channel of zenoh, in order.

    A channel is used rather than a callback, since a callback acquires the interpreter's lock for each record and waits
    5 ms for it whenever the reader computes. The thread that takes samples owns the channel until they are in
    `arrivals`. The reader takes samples itself as long as there are any, without a thread switch. The intake's thread
    waits on the channel for a reader that found it empty (the channel has no wait with a timeout), and empties it while
    the reader is busy, so that marks are answered and zenoh's threads are not blocked.
    """

    def __init__(
        self,
        handler: zenoh.handlers.Handler[zenoh.Sample],
        arrivals: Arrivals,
        *,
        name: str,
        when_due: Callable[[Publisher], None],
    ) -> None:
        """Start the thread; `when_due` is called, from any thread, with each publisher whose mark must be answered."""
        self._handler = handler
        self._arrivals = arrivals
        self._when_due = when_due
        self._is_waited_for = False
        self._is_out = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def take(self, most: int, timeout_s: float) -> list[Arrival]:
        """Return up to `most` arrivals after at most `timeout_s` seconds; returns early when a publisher ends."""
        arrivals = self._arrivals
        due: list[Publisher] = []
        deadline = 0.0
        with arrivals.changed:
            while not arrivals.is_closed:
                if arrivals.count < most and not self._is_out:
                    due += arrivals.put(self._try(most - arrivals.count), when_full="exceed")
                if arrivals.waiting or arrivals.has_news or arrivals.newly_vanished():
                    break
                now = time.monotonic()
                deadline = deadline or now + timeout_s
                if now >= deadline:
                    break
                self._is_waited_for = True
                arrivals.changed.notify_all()
                arrivals.changed.wait(min(deadline - now, _NOTICE_EVERY_S))
            taken = arrivals.pop(most)
            if not taken:
                arrivals.has_news = False
        for publisher in due:
            self._when_due(publisher)
        return taken

    def join(self) -> None:
        """Wait for the thread to end, after the channel and `arrivals` have been closed."""
        self._thread.join()

    def _try(self, most: int) -> list[zenoh.Sample]:
        samples: list[zenoh.Sample] = []
        receive, keep = self._handler.try_recv, samples.append
        try:
            for _ in range(most):
                sample = receive()
                if sample is None:
                    break
                keep(sample)
        except zenoh.ZError:  # the channel is empty and closed
            pass
        return samples

    def _work(self) -> None:
        arrivals = self._arrivals
        while True:
            with arrivals.changed:
                arrivals.changed.wait_for(lambda: self._is_waited_for or arrivals.is_closed, _LOOK_EVERY_S)
                if arrivals.is_closed:
                    break
                self._is_out = True
                waits = self._is_waited_for
            try:
                samples = [self._handler.recv()] if waits else []
            except zenoh.ZError:  # the channel is empty and closed
                return
            samples += self._try(_BATCH)
            while samples:
                for publisher in arrivals.put(samples, when_full="wait"):
                    self._when_due(publisher)
                samples = self._try(_BATCH) if len(samples) >= _BATCH else []
            with arrivals.changed:
                self._is_out = self._is_waited_for = False
                arrivals.changed.notify_all()
        with contextlib.suppress(zenoh.ZError):  # a thread of zenoh may be blocked by the full channel until it closes
            while True:
                self._handler.recv()
