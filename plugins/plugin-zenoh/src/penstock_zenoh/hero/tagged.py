"""Values of CBOR that stay as they came: references, callbacks, placeholders, tags that nobody here knows."""

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
    """A tag and its content; nothing is looked up, called or dialled for it."""

    tag: int
    value: Any

    def describe(self) -> str:
        """Return what messages call it."""
        return _NAMES.get(self.tag, f"a value of the unknown CBOR tag {self.tag}")
