"""Records over zenoh: a publishing store and a subscribing source that exchange receipts; HERO sources and stores.

The classes are in `penstock_zenoh.source`, `penstock_zenoh.store` and `penstock_zenoh.hero`. The archivers and errors
can also be imported from here. Importing this package does not import zenoh until one of them is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock_zenoh.hero.archivers import ArrayArchiver, HERODataArchiver, JsonArchiver
    from penstock_zenoh.hero.event import HeroEventError
    from penstock_zenoh.queries import control

__all__ = ["ArrayArchiver", "HERODataArchiver", "HeroEventError", "JsonArchiver", "control"]

_WHERE = {
    "ArrayArchiver": "penstock_zenoh.hero.archivers",
    "HERODataArchiver": "penstock_zenoh.hero.archivers",
    "HeroEventError": "penstock_zenoh.hero.event",
    "JsonArchiver": "penstock_zenoh.hero.archivers",
    "control": "penstock_zenoh.queries",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
