"""Checkpoints: once all stores have made the records up to a barrier durable, the sources may commit them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from penstock.component import supports
from penstock.compose.resolve import ResolvedNode
from penstock.error_text import text_of
from penstock.run.edges.chunk import Barrier
from penstock.run.steps.store_step import StoreStep
from penstock.store import SupportsTransaction


class CommittingSource(Protocol):
    """The lane of a source, as seen by checkpoints.

    Attributes:
        left: It no longer takes part in checkpoints.
        resolved: The node of the source.
    """

    left: bool
    resolved: ResolvedNode

    def post(self, word: str, value: Any = None) -> None:
        """Send its lane a request: "barrier", "commit"."""
        ...


class Checkpoints:
    """Begin checkpoints, one at a time, follow them through sources and stores, and commit the sources. Any thread.

    A barrier is posted to every source, which reports its position and sends the barrier after its records. A store
    that the barrier has reached on all its edges syncs. When all have synced, the dead letters are synced, and every
    source commits the position that it reported.

    Attributes:
        number: The number of the last checkpoint that was begun.
        done: The number of completed checkpoints.
        poisoned: The reason why nothing may be committed any more, or "".
    """

    def __init__(
        self,
        sync_dead_letters: Callable[[], None],
        completed: Callable[[Mapping[str, Any]], None],
        announce: Callable[[Barrier], None],
        trouble: Callable[[str, BaseException], None],
    ) -> None:
        self.number = 0
        self.done = 0
        self.poisoned = ""
        self._sync_dead_letters = sync_dead_letters
        self._completed = completed
        self._announce = announce
        self._trouble = trouble
        self.lock = threading.RLock()
        self._sources: list[CommittingSource] = []
        self._stores: set[StoreStep] = set()
        self._waiting_sources: set[CommittingSource] = set()
        self._waiting_stores: set[StoreStep] = set()
        self._positions: dict[str, Any] = {}
        self._final: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}
        self._opened: set[str] = set()
        self._durable: dict[str, Any] = {}
        self._active = False
        self._failed = False

    @property
    def active(self) -> bool:
        """Whether a checkpoint is active."""
        return self._active

    def join(self, sources: Iterable[CommittingSource], stores: Iterable[StoreStep]) -> None:
        """Include sources and stores from the next checkpoint on, except those that have ended."""
        with self.lock:
            self._sources.extend(lane for lane in sources if not lane.left)
            self._stores.update(step for step in stores if not step.ended)

    def remove_source(self, lane: CommittingSource) -> None:
        """Exclude this source: it has committed its end, or failed."""
        with self.lock:
            lane.left = True
            if lane in self._sources:
                self._sources.remove(lane)
            self._waiting_sources.discard(lane)
            self._finish_if_complete()

    def stores_that_keep_one(self) -> list[str]:
        """Return the names of the stores that keep only one record of a key: they skip or replace others."""
        with self.lock:
            return sorted(
                step.name
                for step in self._stores
                if getattr(step.resolved.sample, "when_exists", "error") in ("skip", "replace")
            )

    @property
    def has_several_stores(self) -> bool:
        """Whether several stores were opened: then a transactional one may keep an earlier position than the last."""
        return len(self._opened) > 1

    def kept_position(self, source: str) -> Any:
        """Return the position of a source that a transactional store kept, or None."""
        return self._kept.get(source)

    def begin(self) -> bool:
        """Begin a checkpoint; return False if one is active, or none may begin."""
        with self.lock:
            if self._active or self.poisoned or not self._sources:
                return False
            self.number += 1
            self._active, self._failed = True, False
            self._positions = {}
            self._waiting_sources = set(self._sources)
            self._waiting_stores = set(self._stores)
            self._announce(Barrier(self.number))
            for lane in self._sources:
                lane.post("barrier", Barrier(self.number))
            return True

    def poison(self, reason: str) -> None:
        """Stop committing: a record is neither stored nor kept elsewhere."""
        with self.lock:
            self.poisoned = self.poisoned or reason

    def store_opened(self, step: StoreStep) -> None:
        """Store the positions that a transactional store kept from an earlier run."""
        with self.lock:
            self._opened.add(step.name)
        if supports(step.store, SupportsTransaction):
            kept = step.store.positions()
            with self.lock:
                self._kept.update(kept)

    def exchange(self, before: StoreStep, after: StoreStep) -> None:
        """Replace a store, which has been synced and closed, with another."""
        with self.lock:
            for stores in (self._stores, self._waiting_stores):
                if before in stores:
                    stores.discard(before)
                    stores.add(after)

    def source_reached(self, lane: CommittingSource, barrier: Barrier, position: Any) -> None:
        """Store the position of a source at the barrier; called before the barrier is passed on."""
        with self.lock:
            if barrier.number == self.number and self._active:
                self._positions[lane.resolved.node.name or ""] = position
                self._waiting_sources.discard(lane)
                self._finish_if_complete()

    def source_ending(self, lane: CommittingSource, position: Any) -> None:
        """Store the last position of a source; called before its end is passed on."""
        with self.lock:
            self._final[lane.resolved.node.name or ""] = position

    def store_reached(self, step: StoreStep, barrier: Barrier) -> None:
        """Sync a store that the barrier has reached. Called in the lane of the store."""
        with self.lock:
            is_last = not self._failed and self._waiting_stores <= {step}
            positions = {**self._final, **self._positions}
        well = self._sync(step, positions if is_last else None)
        with self.lock:
            self._failed = self._failed or not well
            if barrier.number == self.number:
                self._waiting_stores.discard(step)
                self._finish_if_complete()

    def store_ended(self, step: StoreStep) -> None:
        """Sync a store that will receive nothing more, and exclude it. Called in the lane of the store.

        If that fails, nothing is committed any more: records that the store received will never be durable.
        """
        with self.lock:
            positions = dict(self._final) if self._stores <= {step} else None
        well = self._sync(step, positions)
        with self.lock:
            if not well:
                self.poison(f"{step.resolved.where}: its last sync() failed")
            step.ended = True
            self._stores.discard(step)
            self._waiting_stores.discard(step)
            self._finish_if_complete()

    def _sync(self, step: StoreStep, positions: Mapping[str, Any] | None) -> bool:
        """Sync a store; return whether that worked.

        A transactional store keeps the positions, but only if all other records before them are durable; otherwise it
        keeps those of the last checkpoint, so that no other store and no dead letter lacks records that it has.
        """
        kept: dict[str, Any] | None = None
        if supports(step.store, SupportsTransaction) and not self.poisoned:
            known = positions if positions is not None and self._letters_are_durable() else self._durable
            kept = {name: position for name, position in known.items() if position is not None}
        try:
            step.sync(kept)
        except BaseException as error:  # a store may raise anything: nothing is committed until the next checkpoint
            step.error_policy.fail_late("sync", error)
            step.synced = False
            return False
        return True

    def _letters_are_durable(self) -> bool:
        """Sync the dead letters; if that fails, nothing is committed any more."""
        try:
            self._sync_dead_letters()
        except Exception as error:  # a disk that is full or gone, or a closed log
            message = f"the dead letters could not be synced: {text_of(error)}"
            if not self.poisoned:
                self._trouble(f"{message}; nothing more is committed", error)
            self.poison(message)
            return False
        return True

    def _finish_if_complete(self) -> None:
        if not self._active or self._waiting_sources or self._waiting_stores:
            return
        self._active = False
        if self._failed or self.poisoned or not self._letters_are_durable():
            return
        self.done += 1
        self._durable.update(self._positions)
        for lane in self._sources:
            lane.post("commit", (self.number, self._positions.get(lane.resolved.node.name or "")))
        self._completed(dict(self._positions))
