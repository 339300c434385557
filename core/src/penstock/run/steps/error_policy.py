"""ErrorPolicy: retries of failed calls, and the treatment of their records, by the policy of the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from penstock.compose.retry import Retry
from penstock.error_text import is_a, is_retryable, place_of, remedy_for, text_for_record, text_of
from penstock.errors import ConfigError, PenstockError, RunAborted
from penstock.fields import is_exact, readable
from penstock.record import Record
from penstock.report.counters import Counters
from penstock.run.context import RunContext
from penstock.run.steps.trimmed import trim

if TYPE_CHECKING:
    from penstock.compose.resolve import ResolvedNode

T = TypeVar("T")

ONCE = Retry(times=1)
STORE = Retry(times=3)


class ErrorPolicy:
    """Apply `retry` and `on_error` of one node."""

    def __init__(self, resolved: ResolvedNode, counters: Counters, run: RunContext) -> None:
        self.resolved = resolved
        self.counters = counters
        self.retry = resolved.node.retry or (STORE if resolved.node.role in ("store", "source") else ONCE)
        self._run = run
        self._errors = error_classes(resolved.where, self.retry)

    def again(self, call: Callable[[], T], error: BaseException) -> T:
        """Repeat a call that failed with `error` until it works or the tries are used up; raise the last error.

        The waits grow exponentially, with jitter; the lane waits meanwhile, so that the order is kept. An abort
        ends a wait.
        """
        if self.retry.times == 1 or not self._may_retry(error):
            raise error
        import tenacity

        last = error

        longest_s = self.retry.wait_max_s
        for attempt in tenacity.Retrying(
            wait=tenacity.wait_exponential(self.retry.wait_initial_s, max=longest_s)
            + tenacity.wait_random(0, self.retry.jitter_s),
            sleep=lambda seconds: self._run.pause(min(seconds, longest_s)),
        ):
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    if self._run.aborting:
                        break
                    self.counters.retries += 1
                    try:
                        return call()
                    except BaseException as failure:  # of any class: tenacity receives a proxy for it
                        last = failure
                if attempt.retry_state.attempt_number == self.retry.times or not self._may_retry(last):
                    break
                raise _FailedError(text_of(last))
        raise last

    def tries(self, error: BaseException) -> int:
        """Return the number of tries before `again` raised this error."""
        return (self.retry.times or 1) if self._may_retry(error) else 1

    def is_abort(self, error: BaseException) -> bool:
        """Return whether this is RunAborted from the run itself; from a component it is an error like others."""
        return self._run.aborting and is_a(error, RunAborted)

    def give_up(self, record: Record, error: BaseException, tries: int = 1) -> None:
        """Treat a record that failed for good by the policy `on_error`."""
        where = text_for_record(record, error)
        place = f" ({place_of(record)})" if record.coords else ""
        self.counters.last_error = f"{text_of(error)}{place}{remedy_for(record, error)}"
        trim(error)
        self.counters.first_error = self.counters.first_error or self.counters.last_error
        named = record if is_exact(record) else readable(record)[0]
        self._run.given_up(self.resolved, named)
        match self.resolved.node.on_error:
            case "skip":
                self.counters.skipped[named.channel] += 1
            case "stop":
                self.counters.failed[named.channel] += 1
                self._run.fail(f"{self.resolved.where}: {where}", error)
            case _:
                try:
                    self._run.dead_letter(self.resolved, record, error, tries)
                except BaseException as second:  # the dead letters are the last resort; the disk may be full
                    self.counters.lost += 1
                    self._run.fail(
                        f"{self.resolved.where}: the dead letters failed too: {text_of(second)}; lost is {where}",
                        second,
                    )
                else:
                    self.counters.dead_lettered[named.channel] += 1

    def fail_late(self, method: str, error: BaseException) -> None:
        """Report a `flush`, `sync` or `close` that failed for good: no single record is to blame."""
        self.note(error)
        self._run.trouble(f"{self.resolved.where}: {method}() failed: {text_of(error)}", error)

    def fail_held(self, error: BaseException) -> None:
        """End the run without committing, since a component cannot say which records it holds."""
        self.note(error)
        self._run.fail(f"{self.resolved.where}: held() failed: {text_of(error)}", error)

    def note(self, error: BaseException) -> None:
        """Record an error as the last one."""
        self.counters.last_error = text_of(error)

    def _may_retry(self, error: BaseException) -> bool:
        return not self._run.aborting and is_a(error, self._errors) and is_retryable(error)


class _FailedError(Exception):
    """A proxy for an error while tenacity counts its tries.

    The user's error might end its loop (StopIteration), or raise when it is logged.
    """


def error_classes(where: str, retry: Retry) -> tuple[type[BaseException], ...]:
    """Return the exception classes that are retried. Raises ConfigError for a path that names no exception class."""
    try:
        return retry.error_classes()
    except PenstockError as error:
        raise ConfigError(f"{where}: retry: {error}") from error
