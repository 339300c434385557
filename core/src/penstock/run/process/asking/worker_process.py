"""WorkerProcess: the run's handle for a process with one component."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from penstock.compose.address import path_of
from penstock.compose.by_value import definition_of
from penstock.compose.resolve import ResolvedNode
from penstock.errors import EndOfSource, RunAborted, SourceError, StoreError, WorkerDiedError
from penstock.link import Link, Message, link_classes
from penstock.record import Record
from penstock.run.context import RunContext
from penstock.run.process.asking.starter import Starter
from penstock.run.process.error_data import error_from_data
from penstock.run.process.messages import Answer

_log = logging.getLogger("penstock.run")

LOOK_EVERY_S: Final = 0.1
"""Seconds after which a wait checks whether the run is aborted or the process dead; a message ends it at once."""
CLOSE_S: Final = 30.0
"""Seconds that a process may take to close its component when the run drains; then it is killed, and reported."""
ABORT_S: Final = 3.0
"""Seconds that it may take when the run is aborted."""

_MAIN = (
    "import json, sys; setup = json.loads(sys.stdin.buffer.readline()); sys.path[:] = setup['path']; "
    "from penstock.run.process.working.main import main; main(setup)"
)


class WorkerProcess:
    """A process with one component. All calls are made by one thread.

    Attributes:
        last_words: The final values that the component reported when it was closed; empty before that.

    The process is a new interpreter: nothing is forked, and `__main__` is not run again. It ends on request, or when
    this process ends in any way.
    """

    def __init__(self, resolved: ResolvedNode, run: RunContext) -> None:
        self.resolved = resolved
        self._run = run
        self._process: subprocess.Popen[bytes] | None = None
        self._starter: Starter | None = None
        self._definition = b""
        self._link: Link | None = None
        self._unanswered = 0
        self.last_words: Mapping[str, Any] = {}
        self._death = WorkerDiedError(f"{resolved.where}: has no process")

    @property
    def is_open(self) -> bool:
        """Whether the process exists, as far as is known."""
        return self._process is not None

    def open(self) -> Mapping[str, Any]:
        """Start the process, make and open the component there; return its properties.

        Raises:
            Exception: making or opening the component raised it.
            WorkerDiedError: the process died meanwhile.
            RunAborted: the run is aborted.
        """
        store, source = link_classes(self._run.plugins)
        names = [f"penstock-link-{uuid.uuid4().hex}-{way}" for way in ("there", "back")]
        link = Link(store.for_link(names[0]), source.for_link(names[1]))
        link.open()
        self._link = link
        self.last_words = {}
        try:
            self._definition = self._definition or definition_of(self.resolved.node, use=self.resolved.use)
            self._starter = Starter([sys.executable, "-c", _MAIN], stdin=subprocess.PIPE)
            self._process = self._starter.process
            assert self._process.stdin is not None  # opened with a pipe
            with contextlib.suppress(BrokenPipeError):  # the process is already dead, as is found out below
                self._process.stdin.write(json.dumps(self._setup(store, source, names)).encode() + b"\n")
                self._process.stdin.write(self._definition)
                self._process.stdin.flush()
            self._unanswered = 1
            return self.answer({}).words
        except BaseException:
            self.kill()
            raise

    def ask(self, call: str, records: Sequence[Record] = (), **words: Any) -> Answer:
        """Make a call in the process, and return the answer.

        Raises:
            Exception: the component raised it.
            WorkerDiedError: the process died during the call, or was dead. Nothing of the answer is known.
            RunAborted: the run is aborted.
        """
        return self.answer(self.send(call, records, **words))

    def send(self, call: str, records: Sequence[Record] = (), **words: Any) -> Mapping[int, BaseException]:
        """Make a call in the process, without waiting; `answer` returns the answers, in the order of the calls.

        While an answer is outstanding, send no more than a link takes before it is read (`penstock.link.AHEAD_BYTES`).

        Returns:
            The records that cannot be sent, by place, with their errors.

        Raises:
            WorkerDiedError: the link is broken, or the process was dead. Outstanding answers are lost.
        """
        if self._process is None or self._link is None:
            raise self._death
        self._unanswered += 1
        try:
            return self._link.send({"call": call, **words}, records)
        except StoreError as error:
            raise self._died() from error

    def answer(self, refused: Mapping[int, BaseException]) -> Answer:
        """Return the answer to the oldest call without one; `refused` is what `send` returned for it.

        Raises:
            Exception: as `ask`.
        """
        if self._process is None:
            raise self._death
        message = self._await(self._unless_aborted)
        self._unanswered -= 1
        if "error" in message.words:
            raise error_from_data(message.words["error"])
        return Answer(message.words, message.records, message.places, message.missing, refused)

    def close(self) -> bool:
        """Close the component and end the process; one that is blocked is killed. May be called more than once.

        Returns:
            False if the process was dead, so that the component could not be closed.

        Raises:
            Exception: closing the component raised it.
            TimeoutError: the process did not close in time, and was killed.
        """
        if self._process is None or self._link is None:
            return False
        if self._unanswered:  # it is busy with a call whose answer is no longer needed
            self.kill()
            return False
        started = time.monotonic()

        def patience() -> None:
            limit_s = ABORT_S if self._run.aborting else CLOSE_S
            if time.monotonic() - started > limit_s:
                raise TimeoutError(f"{self.resolved.where}: its process did not close within {limit_s:g} s: killed")

        try:
            self._link.send({"call": "close"})
            message = self._await(patience)
            self.last_words = message.words
            self._process.wait(ABORT_S)
            if "error" in message.words:
                raise error_from_data(message.words["error"])
        except (StoreError, WorkerDiedError) as error:
            _log.warning("%s: found dead when it was to be closed: %s", self.resolved.where, str(error))
            return False
        except subprocess.TimeoutExpired:
            _log.warning("%s: its process has closed and does not end: killed", self.resolved.where)
        finally:
            self.kill()
        return True

    def kill(self) -> None:
        """Kill the process and release everything. May be called more than once."""
        process, self._process = self._process, None
        link, self._link = self._link, None
        self._unanswered = 0
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None  # opened with a pipe
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        starter, self._starter = self._starter, None
        if starter is not None:
            starter.close()
        if link is not None:
            link.close()

    def _setup(self, store: Any, source: Any, names: Sequence[str]) -> dict[str, Any]:
        return {
            "parent": os.getpid(),
            "path": sys.path,
            "size_bytes": len(self._definition),
            "origin": self.resolved.origin,
            "store": path_of(store),
            "source": path_of(source),
            "names": list(names),
        }

    def _unless_aborted(self) -> None:
        if self._run.aborting:
            raise RunAborted("the run is aborted")

    def _await(self, patience: Callable[[], None]) -> Message:
        """Return the next message; `patience` is called while there is none, and raises when the time is over."""
        assert self._link is not None  # open
        assert self._process is not None  # as above
        try:
            while True:
                dead = self._process.poll() is not None  # checked first: its last message has arrived by now
                message = self._link.receive(0.0 if dead else LOOK_EVERY_S)
                if message is not None:
                    return message
                patience()
                if dead:
                    raise self._died()
        except (EndOfSource, SourceError) as error:
            raise self._died() from error

    def _died(self) -> WorkerDiedError:
        """Release a process that is dead, or cut off; return an error that says how it ended."""
        assert self._process is not None  # every caller has one
        try:
            code: int | None = self._process.wait(ABORT_S)
        except subprocess.TimeoutExpired:
            code = None
        pid = self._process.pid
        self.kill()
        self._death = WorkerDiedError(f"{self.resolved.where}: its process {pid} {_ended(code)}")
        return self._death


def _ended(code: int | None) -> str:
    if code is None:
        return "was cut off from the run, and killed"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code}; its output may say why"
