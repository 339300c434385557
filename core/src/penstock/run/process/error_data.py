"""Errors as plain data, to send them to another process: they are never pickled, so received data runs no code."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

import penstock.errors
from penstock.error_text import class_name, class_path, is_a, is_retryable, message_of, plain_text, trace_of
from penstock.errors import RemoteError, SourceError, StoreError

_PLAIN = (str, int, float, bool, type(None))
_LARGEST = 2**63


class _Traceback(Exception):  # noqa: N818 - never raised: as a cause it makes Python print its text
    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def error_to_data(error: BaseException) -> dict[str, Any]:
    """Return an error as plain data."""
    data: dict[str, Any] = {
        "path": class_path(error),
        "name": class_name(error),
        "arguments": _arguments(error),
        "message": message_of(error),
        "traceback": trace_of(error),
    }
    if is_a(error, (SourceError, StoreError)) or not is_retryable(error):
        data["retryable"] = is_retryable(error)
    return data


def _arguments(error: BaseException) -> list[Any]:
    """Return the arguments that make the same error again; the message if they are not plain data."""
    try:
        arguments = list(error.args)
    except BaseException:  # the error is the user's
        arguments = [None]
    own = all(type(each) in _PLAIN and (type(each) is not int or abs(each) < _LARGEST) for each in arguments)
    if not own:
        return [message_of(error)]
    return [plain_text(each) if type(each) is str else each for each in arguments]


def error_from_data(data: Mapping[str, Any]) -> BaseException:
    """Return the error: of its own class if that is Python's or penstock's, else a RemoteError."""
    home = {"builtins": builtins, "penstock.errors": penstock.errors}.get(data["path"].rpartition(".")[0])
    cls = getattr(home, data["name"], None)
    error: BaseException | None = None
    if isinstance(cls, type) and issubclass(cls, BaseException):
        try:
            error = cls(*data["arguments"])
        except Exception:  # a class whose constructor needs other arguments
            error = None
    if error is None:
        error = RemoteError(f"{data['name']}: {data['message']}")
    if "retryable" in data:
        error.retryable = data["retryable"]  # type: ignore[attr-defined]  # set only if the error had it
    error.__cause__ = _Traceback(data["traceback"])
    return error
