"""Encoders that installed distributions bring, found by their entry points and imported when one is needed."""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import Iterator
from typing import Any

_log = logging.getLogger(__name__)

GROUP = "penstock.encoders"
"""The entry-point group: an entry has the name of an encoder, and its value leads to that `Encoder`."""


def installed_encoders(name: str | None = None) -> Iterator[Any]:
    """Yield the encoders of this name, or all, sorted by name; those of excluded plugins (`PENSTOCK_WITHOUT`) are not.

    One that cannot be imported is logged and left out.
    """
    without = {_plain(each) for each in os.environ.get("PENSTOCK_WITHOUT", "").split(",") if each.strip()}
    entries = importlib.metadata.entry_points(group=GROUP)
    for entry in sorted(entries, key=lambda each: (each.name, each.value)):
        home = _plain(entry.dist.name) if entry.dist is not None else ""
        if (name is not None and entry.name != name) or home in without or "*" in without:
            continue
        try:
            encoder = entry.load()
        except (Exception, SystemExit) as error:  # whatever a plugin does at import
            _log.warning("encoder %r of %s cannot be loaded: %s: %s", entry.name, home, type(error).__name__, error)
            continue
        yield encoder


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")
