"""An error as plain data, so that it crosses to another process: never pickled, so nothing that comes is run."""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Mapping
from typing import Any

import penstock.errors
from penstock.errors import RemoteError

_PLAIN = (str, int, float, bool, type(None))
_LONGEST_TRACEBACK = 20_000


class _Traceback(Exception):  # noqa: N818 - never raised: as a cause it makes Python print its text
    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def tell_error(error: BaseException) -> dict[str, Any]:
    """Return an error as plain data."""
    own = all(isinstance(argument, _PLAIN) for argument in error.args)
    told: dict[str, Any] = {
        "module": type(error).__module__,
        "name": type(error).__qualname__,
        "arguments": list(error.args) if own else [str(error)],
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:],
    }
    if hasattr(error, "retryable"):
        told["retryable"] = bool(error.retryable)
    return told


def error_of(told: Mapping[str, Any]) -> Exception:
    """Return the error that was told: of its own class if that is Python's or penstock's, else a RemoteError."""
    home = {"builtins": builtins, "penstock.errors": penstock.errors}.get(told["module"])
    cls = getattr(home, told["name"], None)
    error: Exception | None = None
    if isinstance(cls, type) and issubclass(cls, Exception):
        try:
            error = cls(*told["arguments"])
        except TypeError:  # a class that wants more than its arguments say
            error = None
    if error is None:
        error = RemoteError(f"{told['name']}: {told['message']}")
    if "retryable" in told:
        error.retryable = told["retryable"]  # type: ignore[attr-defined]  # those that had it have it, others may
    error.__cause__ = _Traceback(told["traceback"])
    return error
