"""Process 1 of the demo, as process 2 sees it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import IO, Any

import attrs

from penstock.errors import RunError
from penstock_demo.pipelines import Scene

PATIENCE_S = 10.0
"""Seconds that process 1 has to end by itself once it has been asked to."""


@attrs.define(eq=False)
class Publisher:
    """Start process 1, follow it, and see that it ends: use it in `with`.

    Attributes:
        scene: What it plays.
    """

    scene: Scene
    _process: subprocess.Popen[str] | None = None
    _errors: IO[str] | None = None

    def __enter__(self) -> Publisher:
        """Start it, in a session of its own: a Ctrl-C reaches process 2, which decides."""
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "penstock_demo.publish", self.scene.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            start_new_session=True,
        )
        return self

    def wait_until_ready(self) -> None:
        """Return when it has opened the video and is about to publish. Raises RunError with its reason if it cannot."""
        self._told("ready")

    def outcome(self) -> dict[str, Any]:
        """Wait until it has ended; return `stored`, `problems` and `report`. Raises RunError with its reason."""
        told = self._told("ended")
        self._running().wait(PATIENCE_S)
        return told

    def has_ended(self) -> bool:
        """Return whether it runs no more."""
        return self._running().poll() is not None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it: ask first, and insist after a while."""
        process, self._process = self._running(), None
        assert process.stdin is not None  # they are pipes
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        if self._errors is not None:
            self._errors.close()

    def _told(self, expected: str) -> dict[str, Any]:
        process = self._running()
        assert process.stdout is not None  # it is a pipe
        line = process.stdout.readline()
        try:
            told: dict[str, Any] = json.loads(line)
        except ValueError:
            status = process.wait()
            raise RunError(f"process 1 ended with status {status}{self._last_words()}") from None
        if told.get("event") != expected:
            raise RunError(f"process 1: {told.get('error', told)}")
        return told

    def _last_words(self) -> str:
        assert self._errors is not None  # it is open as long as the process is
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f": {lines[-1]}" if lines else " and said nothing; start the demo again"

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RunError("process 1 of the demo has not been started: use it in `with`")
        return self._process
