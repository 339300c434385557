"""Events: callbacks for data acquired, processed or stored, each in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Literal, get_args

from penstock.coords import DataCoordinates
from penstock.error_text import shown, trace_of
from penstock.errors import ConfigError
from penstock.short_text import short

_log = logging.getLogger("penstock.handler")

Event = Literal["acquired", "processed", "stored"]
Callback = Callable[[DataCoordinates], object]

CAPACITY: Final = 10_000
"""The most events that wait for a callback; beyond that the oldest are dropped, and counted in the log."""


class _Subscription:
    def __init__(self, event: Event, callback: Callback, name: str) -> None:
        self.event = event
        self.callback = callback
        self.missed = 0
        self._waiting: deque[DataCoordinates] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self.thread = threading.Thread(target=self._main, name=f"penstock {name}: {event}", daemon=True)
        self.thread.start()

    def tell(self, coords: Iterable[DataCoordinates]) -> None:
        with self._changed:
            if self._ended:
                return
            self._waiting.extend(coords)
            while len(self._waiting) > CAPACITY:
                self._waiting.popleft()
                self.missed += 1
            self._changed.notify()

    def end(self, *, now: bool) -> None:
        with self._changed:
            self._ended = True
            if now:
                self._waiting.clear()
            self._changed.notify()

    def _next(self) -> DataCoordinates | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            return self._waiting.popleft() if self._waiting else None

    def _main(self) -> None:
        while (coords := self._next()) is not None:
            try:
                self.callback(coords)
            except BaseException as error:  # a callback may raise anything: it must not affect others
                callback, trace = shown(self.callback), trace_of(error)
                _log.error("the callback %s for %r failed at %r\n%s", callback, self.event, coords, trace)
        if self.missed:
            _log.warning("the callback %s was too slow: it missed %d %r", shown(self.callback), self.missed, self.event)


class Events:
    """Notify subscribers. Never waits for them. Any thread.

    Attributes:
        wanted: The events with subscribers.
    """

    def __init__(self, name: str) -> None:
        self.wanted: frozenset[str] = frozenset()
        self._name = name
        self._lock = threading.Lock()
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._over = False

    def subscribe(self, event: Event, callback: Callback) -> Callable[[], None]:
        """Call `callback` for each event from now on; return a function that ends it."""
        if event not in get_args(Event):
            raise ConfigError(f"event {short(event)}: must be one of {', '.join(get_args(Event))}")
        if not callable(callback):
            raise ConfigError(f"callback={short(callback)}: must be a function of the coordinates")
        with self._lock:
            if self._over:  # no more events will come
                return lambda: None
            subscription = _Subscription(event, callback, self._name)
            self._set((*self._subscriptions, subscription))

        def unsubscribe() -> None:
            subscription.end(now=True)
            with self._lock:
                self._set(tuple(each for each in self._subscriptions if each is not subscription))

        return unsubscribe

    def _set(self, subscriptions: tuple[_Subscription, ...]) -> None:
        self._subscriptions = subscriptions
        self.wanted = frozenset(each.event for each in subscriptions)

    def tell(self, event: Event, coords: Iterable[DataCoordinates]) -> None:
        """Notify the subscribers of an event. Check `wanted` first: it is cheaper."""
        for subscription in self._subscriptions:
            if subscription.event == event:
                subscription.tell(coords)

    def end(self) -> None:
        """Let every subscription end after its pending events; returns at once."""
        with self._lock:
            self._over = True
            for subscription in self._subscriptions:
                subscription.end(now=False)

    def join(self, timeout_s: float) -> None:
        """Wait until all are notified; a callback that blocks for longer is named in the log, and abandoned."""
        deadline = time.monotonic() + timeout_s
        for subscription in self._subscriptions:
            if subscription.thread is not threading.current_thread():
                subscription.thread.join(max(0.0, deadline - time.monotonic()))
                if subscription.thread.is_alive():
                    _log.warning("the callback %s for %r blocks", shown(subscription.callback), subscription.event)
