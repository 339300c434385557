"""SourceLane: the thread that reads a source, and lives until its records are durable and committed."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from penstock.component import supports
from penstock.compose.resolve import ResolvedNode
from penstock.error_text import text_of
from penstock.errors import EndOfSource, RunAborted, SourceError
from penstock.record import Record
from penstock.record_size import OVERHEAD_BYTES, size_of
from penstock.report.counters import Counters
from penstock.run.lanes.context import LaneContext
from penstock.run.lanes.continued_numbers import ContinuedNumbers
from penstock.run.lanes.intake import Intake
from penstock.run.lanes.lane import Lane
from penstock.run.lanes.opening import opening
from penstock.run.lanes.positions import own_position, position_to_keep
from penstock.run.lanes.source_counters import SourceCounters
from penstock.run.steps.error_policy import ErrorPolicy
from penstock.run.steps.placing import make_component
from penstock.run.steps.step import Step
from penstock.source import SupportsCommit, SupportsDurable, SupportsEndSoon, SupportsSeek, SupportsWake

READ_TIMEOUT_S: Final = 0.1
"""The timeout of one read in seconds, and so the longest delay of a barrier or a stop."""
WOKEN_TIMEOUT_S: Final = 1.0
"""The same for a source that can be woken (`SupportsWake`): neither waits for it."""
FORGET_FAILURES_S: Final = 60.0
"""Seconds without a failure after which a source has all its tries again; a source that fails more often uses them up,
even if it returns records in between (a file that is damaged at the same place each time)."""


class SourceLane(Lane):
    """A lane that reads a source. It lives on after the source's end until all records are durable and committed.

    Attributes:
        counters: The records that the source returned.
        source_counters: The values that the source reports itself.
        paused: While it is set, the source is not read.
        failed: The reason why the source ended early, or "".
    """

    def __init__(self, run: LaneContext, resolved: ResolvedNode, steps: Sequence[Step]) -> None:
        name = resolved.node.name or ""
        super().__init__(run, "+".join([name, *(step.name for step in steps)]), steps)
        self.resolved = resolved
        self.source: Any = None
        self.counters = Counters()
        self.error_policy = ErrorPolicy(resolved, self.counters, run)
        self.source_counters = SourceCounters(lambda method, error: self.error_policy.fail_late(method, error))
        self.paused = False
        self.failed = ""
        self.last_read = time.monotonic()
        self.last_record = time.monotonic()
        self.ended_before: int | None = None
        self.left = False
        self._retired: list[tuple[Any, Any, int]] = []
        self._mail: deque[tuple[str, Any]] = deque()
        self._mailed = threading.Event()
        self._stopping = False
        self._ending = False
        self._broken = False
        self._failures = 0
        self._failed_at = 0.0
        self._commits = False
        self._wakes = False
        self._is_live = False
        self._numbers = ContinuedNumbers()
        self._position: Any = None
        self._opened_at: Any = None
        self._committed: Any = None
        self._intake = Intake(resolved, self.error_policy, self.counters)

    def node_names(self) -> set[str]:
        """Return the names of the source and of the nodes behind it in this lane."""
        return {self.resolved.node.name or "", *(step.name for step in self.steps)}

    def open_source(self) -> None:
        """Make and open the source."""
        with opening(self.resolved):
            self.source = make_component(self.resolved, self.run, self.counters)
            self.source.open()
            self._intake.opened(self.source)
            self.source_counters.opened(self.source)
            self._begin_position()
            kept = self.run.checkpoints.kept_position(self.resolved.node.name or "")
            if kept is not None and isinstance(self.source, SupportsSeek) and self._is_newest(kept):
                self.source.seek(kept)
                self._begin_position()

    def close(self) -> None:
        """Close the source, then the components."""
        for source in (self.source, *(retired[0] for retired in self._retired)):
            if source is not None:
                try:
                    self.active = (self.resolved.node.name or "", time.monotonic())
                    source.close()
                except (
                    BaseException
                ) as error:  # closing hides no earlier error, and does not prevent the others from closing
                    self.error_policy.fail_late("close", error)
        super().close()

    def abandon(self) -> None:
        """Make the source count the records that it holds as lost."""
        source: Any = self.source
        if isinstance(source, SupportsEndSoon):
            method = "close"
        elif callable(getattr(source, "abandon", None)):
            method = "abandon"
        else:
            return
        try:
            getattr(source, method)()
        except BaseException as error:  # as in close
            self.error_policy.fail_late(method, error)

    # Called from other threads.

    def nudge(self) -> None:
        """Interrupt the lane's wait; a source that is being read and cannot be woken delays this by its timeout."""
        self._mailed.set()
        if self._wakes:
            try:
                self.source.wake()
            except BaseException as error:  # as in _read_once; its read returns by itself
                self.error_policy.fail_late("wake", error)

    def post(self, word: str, value: Any = None) -> None:
        """Send the lane a request: "barrier", "commit", "close"."""
        self._mail.append((word, value))
        self.nudge()

    def stop(self) -> None:
        """End the source as if no more records arrived; one that holds records returns these first."""
        if isinstance(self.source, SupportsEndSoon):
            if not self._ending:
                self._ending = True
                self.paused = False
                try:
                    self.source.end_soon()
                except BaseException as error:  # as in _read_once
                    self.error_policy.fail_late("end_soon", error)
                    self._stopping = True
        else:
            self._stopping = True
        self.nudge()

    def work(self) -> None:
        """Read until the source ends, fails for good or is stopped."""
        while not self._stopping:
            if self._mail:
                self._read_mail()
            if self.run.aborting:
                raise RunAborted("the run is aborted")
            if self.paused:
                self._mailed.wait(READ_TIMEOUT_S)
                self._mailed.clear()
                self.tick()
                continue
            if not self._read_once():
                return

    def _read_once(self) -> bool:
        longest_s = WOKEN_TIMEOUT_S if self._wakes else READ_TIMEOUT_S
        wait = self.wait_s()
        self.active = (self.resolved.node.name or "", time.monotonic())
        try:
            read = self.source.read(self.list_size(), longest_s if wait is None else min(wait, longest_s))
        except EndOfSource:
            self._note_position()
            return False
        except BaseException as error:  # any error of a source ends this source at most, never its neighbours
            if self.error_policy.is_abort(error):
                raise
            return self._restart(error)
        try:
            records = self._intake.take(read)
        except BaseException as error:  # the list that read() returned belongs to the source, and may raise anything
            return self._restart(error)
        self._note_position()
        self.active = None
        now = time.monotonic_ns()
        self.last_read = now / 1e9
        if records:
            self.last_record = self.last_read
            if self._broken:
                records = self._after_break(records)
            if self._is_live:
                records = self._numbers.take(records, self.resolved)
            if not self.steps:
                self._regrain(len(records), (OVERHEAD_BYTES + size_of(records[0].data)) * len(records), 0)
            self.process(now, records)
        self.tick()
        return True

    def _restart(self, error: BaseException) -> bool:
        """Close and reopen the source, by its policy; return False if it is to end."""
        self.error_policy.note(error)

        def reopen() -> None:
            if self._stopping or self._ending or self.run.aborting:
                return
            self.source_counters.closing()
            self.source.close()
            self.source.open()
            self.counters.reopened += 1
            self.source_counters.opened(self.source)
            if self._position is not None and isinstance(self.source, SupportsSeek):
                self.source.seek(self._position)
            else:
                self._check_position()

        now = time.monotonic()
        self._failures = 1 if now - self._failed_at > FORGET_FAILURES_S else self._failures + 1
        self._failed_at = now
        try:
            if self._failures >= (self.error_policy.retry.times or sys.maxsize):
                raise error
            self.error_policy.again(reopen, error)
            self._broken = True
            self._numbers.opened_again()
        except BaseException as last:  # as above
            self.failed = f"{self.resolved.where}: {text_of(last)}"
            self.run.trouble(self.failed, last)
            if self.resolved.node.on_error == "stop":
                self.run.stop_soon()
            return False
        return True

    def _after_break(self, records: Sequence[Record]) -> list[Record]:
        self._broken = False
        seen: set[str] = set()
        marked = []
        for record in records:
            marked.append(record if record.channel in seen else record.replace(discontinuity=True))
            seen.add(record.channel)
        return marked

    def end(self) -> None:
        """End the steps, then wait until all records are committed, or no commit will come."""
        self._wakes = False  # it is no longer read
        self.run.checkpoints.source_ending(self, self._to_keep())
        super().end()
        self.ended_before = self.run.checkpoints.number + 1
        self.run.source_ended(self)
        while True:  # check first: the last request before the end may have woken an earlier wait
            self._run_errands()
            if self.run.aborting or not self._read_mail():
                return
            self._mailed.wait()
            self._mailed.clear()

    def _read_mail(self) -> bool:
        """Carry out the requests; return False when the lane may end."""
        while self._mail:
            word, value = self._mail.popleft()
            if word == "barrier":
                self.run.checkpoints.source_reached(self, value, self._to_keep())
                if not self.ended:
                    self.barrier(value)
            elif word == "commit":
                number, position = value
                self._commit(self.source, position)
                self._commit_retired(number)
                if self.ended_before is not None and number >= self.ended_before:
                    return False
            elif word == "close":
                return False
        return True

    def position(self) -> Any:
        """Return the source's position after the last list that the run took, or None: then nothing is committed.

        The source itself is not asked: a failed read may have moved it past records that never arrived.
        """
        return self._position

    def _to_keep(self) -> Any:
        """Return the position as a transactional store is to keep it."""
        return position_to_keep(self.source, self._position, self.error_policy)

    def _is_newest(self, kept: Any) -> bool:
        """Return whether a source begins at the position that a store kept instead of its own.

        Beside other stores, a store may have kept an earlier position than the source has committed. Of two numbers
        the larger counts, otherwise the position of the source, if it commits.
        """
        if not self.run.checkpoints.has_several_stores or not isinstance(self.source, SupportsCommit):
            return True
        own = self._position
        return isinstance(kept, int | float) and isinstance(own, int | float) and kept > own

    def _begin_position(self) -> None:
        """Store the position of a source that has been opened and not read yet."""
        source = self.source
        commits = supports(source, SupportsCommit)
        self._stands: Any = getattr(source, "position" if commits else "mark", None)
        self._commits = commits or supports(source, SupportsDurable)
        self._is_live = not commits and not supports(source, SupportsSeek)
        self._wakes = supports(source, SupportsWake)
        self._position = self._committed = self._opened_at = self._initial_position()

    def _note_position(self) -> None:
        """Store the position of the source: the run has taken its records."""
        if self._commits:
            try:
                self._position = own_position(self._stands())
            except BaseException as error:  # as in _read_once; the records are fine, the last position stays valid
                self.error_policy.fail_late("position", error)

    def _initial_position(self) -> Any:
        """Return the position of a source that was opened and not read yet, or None if it is unknown."""
        try:
            return own_position(self._stands()) if self._commits else None
        except BaseException:  # some sources know it only after a read; they are asked again then
            return None

    def _check_position(self) -> None:
        """Stop committing a source that was reopened at a position that may be past records that never arrived.

        A source that cannot seek begins at its committed position, or at its last one; any other position means that
        the failed read has lost records.
        """
        place = self._initial_position()
        if not place or any(place == known for known in (self._position, self._committed, self._opened_at)):
            return
        self._commits, self._position = False, self._committed
        self.error_policy.fail_late(
            "open",
            SourceError(
                f"it continues at {place!r:.80} after a failed read, and cannot seek: earlier records may be "
                "missing, so nothing more of it is committed; begin at the committed position, or implement seek()"
            ),
        )

    def swap_source(self, resolved: ResolvedNode) -> None:
        """Read another source from now on. In the thread of the lane.

        The old one stays open until its records are durable and committed. Raises RunError if the new one cannot be
        opened; then the old one is read as before.
        """
        fresh = make_component(resolved, self.run, self.counters)
        with opening(resolved):
            fresh.open()
        self._retired.append((self.source, self._position, self.run.checkpoints.number + 1))
        self.source_counters.closing()
        self.source, self.resolved = fresh, resolved
        self.source_counters.opened(fresh)
        self.error_policy = ErrorPolicy(resolved, self.counters, self.run)
        self._intake = Intake(resolved, self.error_policy, self.counters)
        self._intake.opened(fresh)
        self._begin_position()
        self._broken = True
        self._numbers.opened_again()

    def _commit_retired(self, number: int) -> None:
        for retired in [each for each in self._retired if number >= each[2]]:
            self._retired.remove(retired)
            source, position, _ = retired
            self._commit(source, position)
            try:
                source.close()
            except BaseException as error:  # as in close
                self.error_policy.fail_late("close", error)

    def _commit(self, source: Any, position: Any) -> None:
        if position is None:
            return
        notify = source.commit if isinstance(source, SupportsCommit) else source.durable
        try:
            notify(position)
            if source is self.source:
                self._committed = position
        except BaseException as error:  # the records are safe; the next run may read them a second time
            self.error_policy.note(error)
            try:
                self.error_policy.again(lambda: notify(position), error)
            except BaseException as last:  # as above
                self.error_policy.fail_late("commit", last)
