"""The keys that a store publishes on: the key expression of a template, and the check of a key."""

from __future__ import annotations

import zenoh

from penstock_zenoh.library_errors import MOST_KEY_BYTES

TEMPLATE_OPENINGS = ("{{", "{%", "{#")
"""The start of a variable part in a template."""


def announced_key(template: str) -> str:
    """Return a key expression that includes every key that the template can produce.

    >>> announced_key("lab/camera/{{ channel }}"), announced_key("lab/camera"), announced_key("{{ channel }}")
    ('lab/camera/**', 'lab/camera', '**')
    """
    starts = [template.index(mark) for mark in TEMPLATE_OPENINGS if mark in template]
    if not starts:
        return template
    constant, slash, _ = template[: min(starts)].rpartition("/")
    return f"{constant}{slash}**"


def key_problem(key: str) -> str:
    """Return the problem of a key to publish on, or an empty string."""
    try:
        size_bytes = len(key.encode())
        if size_bytes > MOST_KEY_BYTES:
            return f"has {size_bytes} bytes, and zenoh can send {MOST_KEY_BYTES}"
        zenoh.KeyExpr(key)
    except (zenoh.ZError, UnicodeEncodeError):
        return "is not a zenoh key: write non-empty chunks separated by '/', without '#', '?' and '$'"
    if "*" in key:
        return "has a wildcard: a store publishes on plain keys"
    if key.startswith("@penstock/"):
        return "begins with '@penstock', which is reserved for the plugin"
    return ""
