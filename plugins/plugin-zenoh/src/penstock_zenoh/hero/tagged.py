"""CBOR values that are not decoded: references, callbacks, placeholders and unknown tags."""

from __future__ import annotations

from typing import Any

import attrs

ARRAY, REFERENCE, PLACEHOLDER, CALLBACK, EVENT, METHOD, ERROR = 4242, 9000, 9001, 9002, 9003, 9004, 9005
"""The tags of HEROs."""

_NAMES = {
    REFERENCE: "a reference to a HERO",
    PLACEHOLDER: "a placeholder for an object that could not be sent",
    CALLBACK: "a callback",
    EVENT: "an event of a HERO",
    METHOD: "a method of a HERO",
    ERROR: "an error",
}


@attrs.frozen
class Tagged:
    """A tag and its content; it is not resolved, called or connected to."""

    tag: int
    value: Any

    def describe(self) -> str:
        """Return its name for messages."""
        return _NAMES.get(self.tag, f"a value of the unknown CBOR tag {self.tag}")
