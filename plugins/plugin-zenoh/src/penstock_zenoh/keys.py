"""The keys that a store publishes on: what a template announces, and what is wrong with a key."""

from __future__ import annotations

import zenoh

from penstock_zenoh.outside import MOST_KEY_BYTES

TEMPLATE_OPENINGS = ("{{", "{%", "{#")
"""The beginning of the variable part of a template."""


def announced_key(template: str) -> str:
    """Return a key expression that includes every key the template can give.

    >>> announced_key("lab/camera/{{ channel }}"), announced_key("lab/camera"), announced_key("{{ channel }}")
    ('lab/camera/**', 'lab/camera', '**')
    """
    starts = [template.index(mark) for mark in TEMPLATE_OPENINGS if mark in template]
    if not starts:
        return template
    constant, slash, _ = template[: min(starts)].rpartition("/")
    return f"{constant}{slash}**"


def key_problem(key: str) -> str:
    """Return what is wrong with a key to publish on, or nothing."""
    try:
        size_bytes = len(key.encode())
        if size_bytes > MOST_KEY_BYTES:
            return f"has {size_bytes} bytes, and zenoh can send {MOST_KEY_BYTES}"
        zenoh.KeyExpr(key)
    except (zenoh.ZError, UnicodeEncodeError):
        return "is no zenoh key; it has chunks with '/' between them, none empty, without '#', '?' and '$'"
    if "*" in key:
        return "has a wildcard; a store publishes on plain keys"
    if key.startswith("@penstock/"):
        return "begins with '@penstock', which the plugin keeps for itself"
    return ""
