"""Publisher: process 1 of the demo, controlled by process 2."""

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
"""Seconds to wait for process 1 to end before it is killed."""


@attrs.define(eq=False)
class Publisher:
    """Start process 1, follow it, and stop it: use it in `with`.

    Attributes:
        scene: The settings of the demo.
    """

    scene: Scene
    _process: subprocess.Popen[str] | None = None
    _errors: IO[str] | None = None

    def __enter__(self) -> Publisher:
        """Start process 1 in a new session, so that Ctrl-C reaches only process 2."""
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
        """Wait until it has opened the video and is ready to publish. Raises RunError with the reason if it cannot."""
        self._receive("ready")

    def outcome(self) -> dict[str, Any]:
        """Wait until it has ended; return `stored`, `problems` and `report`. Raises RunError with the reason."""
        message = self._receive("ended")
        self._running().wait(PATIENCE_S)
        return message

    def has_ended(self) -> bool:
        """Return whether it has ended."""
        return self._running().poll() is not None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ask it to end, and kill it after `PATIENCE_S`."""
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

    def _receive(self, expected: str) -> dict[str, Any]:
        process = self._running()
        assert process.stdout is not None  # it is a pipe
        line = process.stdout.readline()
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError:
            status = process.wait()
            raise RunError(f"process 1 ended with status {status}{self._last_error()}") from None
        if message.get("event") != expected:
            raise RunError(f"process 1: {message.get('error', message)}")
        return message

    def _last_error(self) -> str:
        assert self._errors is not None  # open as long as the process
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f": {lines[-1]}" if lines else " and wrote no error; start the demo again"

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RunError("process 1 of the demo has not been started: use Publisher in `with`")
        return self._process
