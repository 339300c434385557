"""Records over zenoh: a publishing store and a subscribing source that exchange receipts; HERO sources and stores.

All classes of components, the archivers and the errors can be imported from here. Importing this package does not
import zenoh until one of them is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock_zenoh.hero.archivers import ArrayArchiver, HERODataArchiver, JsonArchiver
    from penstock_zenoh.hero.event import HeroEventError
    from penstock_zenoh.hero.source import HeroSource
    from penstock_zenoh.hero.store import HeroStore
    from penstock_zenoh.queries import control
    from penstock_zenoh.source import ZenohSource
    from penstock_zenoh.store import ZenohStore

__all__ = [
    "ArrayArchiver",
    "HERODataArchiver",
    "HeroEventError",
    "HeroSource",
    "HeroStore",
    "JsonArchiver",
    "ZenohSource",
    "ZenohStore",
    "control",
]

_WHERE = {
    "ArrayArchiver": "penstock_zenoh.hero.archivers",
    "HERODataArchiver": "penstock_zenoh.hero.archivers",
    "HeroEventError": "penstock_zenoh.hero.event",
    "HeroSource": "penstock_zenoh.hero.source",
    "HeroStore": "penstock_zenoh.hero.store",
    "JsonArchiver": "penstock_zenoh.hero.archivers",
    "ZenohSource": "penstock_zenoh.source",
    "ZenohStore": "penstock_zenoh.store",
    "control": "penstock_zenoh.queries",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
