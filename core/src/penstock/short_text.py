"""Short text of any value, for `repr`s; long values are abridged."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any, Final

import attrs

from penstock.secret_texts import is_secret, without_secrets

MOST_LETTERS: Final = 60
MOST_LISTED: Final = 8


def short(value: Any) -> str:
    """Return a line of about sixty characters at most; never raises, even if the value's own `repr` does.

    An array is described by dtype and shape, bytes by their number.
    """
    try:
        if isinstance(value, (bytes, bytearray, memoryview)) and len(value) > 20:
            return f"<{type(value).__name__}, {memoryview(value).nbytes} bytes>"
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        if isinstance(shape, tuple) and shape and dtype is not None:
            return f"<{dtype} {shape}>"
        text = " ".join(_brief.repr(value).split())
    except KeyboardInterrupt:
        raise
    except BaseException:  # errors of a user's class must not reach the code that prints it
        return f"<{type(value).__name__}>"
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"


def sentence_of(error: BaseException) -> str:
    """Return the message of an error; of one by a validator of attrs without the definition of the field."""
    args = error.args
    if len(args) > 1 and type(args[1]) is attrs.Attribute and type(args[0]) is str:
        return args[0]
    return str(error)


def setting(name: str, value: Any) -> str:
    """Return "name=value" without secrets: values of secret names, secret parts of a value, passwords in URLs."""
    return f"{name}={'…' if is_secret(name) else short(without_secrets(value))}"


def listed(texts: Sequence[str]) -> str:
    """Return texts joined with commas; of many, the first ones and the number of the others."""
    more = [f"… {len(texts) - MOST_LISTED} more"] if len(texts) > MOST_LISTED else []
    return ", ".join([*texts[:MOST_LISTED], *more])


_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = MOST_LETTERS
