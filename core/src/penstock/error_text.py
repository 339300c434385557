"""Safe descriptions of errors that user code raised: every function here returns, even if the error itself raises.

An error is a user's object: its `__str__`, `__repr__`, `__class__` and attributes may raise. So its class is found by
`type`, never by `isinstance`, and all other access is in a `try`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from penstock.errors import PenstockError
from penstock.short_text import sentence_of

if TYPE_CHECKING:
    from penstock.record import Record

T = TypeVar("T")

LONGEST_TRACEBACK: Final = 20_000
_LONGEST_MESSAGE: Final = 10_000
_READ_ONLY: Final = ("read-only", "readonly", "read only")


def is_a(error: BaseException, classes: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Return whether an error is of these classes, as `except` would see it."""
    return issubclass(type(error), classes)


def class_name(error: BaseException) -> str:
    """Return the name of its class."""
    return _try(lambda: plain_text(type(error).__qualname__), "an error whose class has no name")


def class_path(error: BaseException) -> str:
    """Return the name of its class with that of its module: "builtins.ValueError"."""
    return f"{_try(lambda: plain_text(type(error).__module__), '?')}.{class_name(error)}"


def message_of(error: BaseException) -> str:
    """Return its message, or a note that it cannot be printed."""
    otherwise = "(its message cannot be printed: __str__ raises)"
    return _try(lambda: plain_text(sentence_of(error))[:_LONGEST_MESSAGE], otherwise)


def text_of(error: BaseException) -> str:
    """Return the name of its class and its message: "ValueError: too short"."""
    message = message_of(error)
    return f"{class_name(error)}: {message}" if message else class_name(error)


def trace_of(error: BaseException) -> str:
    """Return its traceback, with its causes, as text."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:  # the traceback module accesses the error
        where = _try(lambda: "".join(traceback.format_tb(error.__traceback__)), "")
        text = f"Traceback (most recent call last):\n{where}{text_of(error)}\n"
    return plain_text(text)[-LONGEST_TRACEBACK:]


def is_retryable(error: BaseException) -> bool:
    """Return False if the error is marked as not retryable."""
    return _try(lambda: bool(getattr(error, "retryable", True)), otherwise=True)


def shown(value: Any) -> str:
    """Return the `repr` of anything, cut to what fits a message."""
    return _try(
        lambda: plain_text(f"{value!r:.100}"), f"a {_try(lambda: type(value).__name__, 'thing')} whose repr raises"
    )


def failed_records(error: BaseException) -> list[tuple[Record, BaseException]] | None:
    """Return the records that a StoreError names, each with its error; None if it names none, or is malformed."""
    from penstock.errors import StoreError
    from penstock.record import Record

    def named() -> list[tuple[Record, BaseException]] | None:
        pairs = [(record, cause) for record, cause in error.failed]  # type: ignore[attr-defined]  # it is a StoreError
        well = all(
            issubclass(type(record), Record) and issubclass(type(cause), BaseException) for record, cause in pairs
        )
        return pairs if pairs and well else None

    return _try(named, None) if is_a(error, StoreError) else None


def text_for_record(record: Record, error: BaseException) -> str:
    """Return a description of a failed record: record, class, message, and the remedy where one is known."""
    return f"{place_of(record)}: {message_of(error)} ({class_name(error)}){remedy_for(record, error)}"


def place_of(record: Record) -> str:
    """Return "record 3 of channel 'cam' at z=1, time=2"; without the coordinates if it has none."""
    coords = _try(lambda: ", ".join(f"{axis}={value!r}" for axis, value in record.coords.items()), "")
    place = _try(
        lambda: plain_text(f"record {record.seq} of channel {record.channel!r}"), "a record that cannot be named"
    )
    return f"{place} at {plain_text(coords)}" if coords else place


def remedy_for(record: Record, error: BaseException) -> str:
    """Return the remedy if the error comes from writing to read-only data, else ""."""
    if is_a(error, PenstockError) or not is_a(error, (ValueError, TypeError, RuntimeError)):
        return ""
    said = message_of(error).lower()
    if not any(word in said for word in _READ_ONLY) or not _try(lambda: _has_read_only(record.data), otherwise=False):
        return ""
    return (
        ". Its arrays arrive read-only, since others hold them too: say in_place = True in the class of the processor "
        "to get a copy, or work at record.data.copy()"
    )


def _has_read_only(data: Any) -> bool:
    flags = getattr(data, "flags", None)
    if flags is not None:
        return not getattr(flags, "writeable", True)
    if isinstance(data, memoryview):
        return data.readonly
    inside = data.values() if isinstance(data, dict) else data if isinstance(data, (list, tuple)) else ()
    return any(_has_read_only(each) for each in inside)


def plain_text(text: Any) -> str:
    """Return a plain string that can be written as UTF-8."""
    return str.encode(text, "utf-8", "backslashreplace").decode()


def _try(call: Callable[[], T], otherwise: T) -> T:
    try:
        return call()
    except BaseException:  # accessing an error, or its attributes, may raise anything
        return otherwise
