"""Headers of a message, also if their names are not text."""

from __future__ import annotations

import gc
import operator
from typing import Any, Final

from confluent_kafka import Message

_headers: Final = operator.methodcaller("headers")


def headers_of(message: Message) -> tuple[list[tuple[str, bytes | None]], int]:
    """Return the headers of a message, and the number of those left out because their names are not UTF-8.

    For such names, the client (confluent-kafka 2.16) returns tuples without a first item and sets an error besides.
    Reading that item ends the process, so it is only asked how many items there are. `methodcaller` always notices the
    error; Python's optimised calls of methods do not.
    """
    try:
        return _headers(message) or [], 0
    except (SystemError, UnicodeDecodeError):
        pass
    try:
        found: list[Any] = _headers(message) or []
    except UnicodeDecodeError:  # a client that raises it each time
        return [], 1
    whole = [each for each in found if len(gc.get_referents(each)) == 2]
    return whole, len(found) - len(whole)
