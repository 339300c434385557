"""Shared memory between the processes of one machine: channels, arrays, objects.

`ShmStore` and `ShmSource` are the two sides of a channel; `SharedMemoryArray` is an array that many processes read
and write; `ShmObjectStore` keeps objects by name and id, `PlasmaStoreInterface` is the same under improv's names, and
an `Encoder` converts objects of other types; `listing`, `leftovers` and `clean` list and remove shared memory.
Modules are imported on first use, so that listing plugins stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.codec.encoders import Encoder
    from penstock_shm.arrays.array import SharedMemoryArray
    from penstock_shm.channel.source import ShmSource
    from penstock_shm.channel.store import ShmStore
    from penstock_shm.cleaning import Shared, clean, leftovers, listing
    from penstock_shm.objects.objects import ShmObjectStore
    from penstock_shm.objects.plasma import PlasmaStoreInterface

__all__ = [
    "Encoder",
    "PlasmaStoreInterface",
    "Shared",
    "SharedMemoryArray",
    "ShmObjectStore",
    "ShmSource",
    "ShmStore",
    "clean",
    "leftovers",
    "listing",
]

_MODULES = {
    "Encoder": "penstock.codec.encoders",
    "PlasmaStoreInterface": "penstock_shm.objects.plasma",
    "Shared": "penstock_shm.cleaning",
    "SharedMemoryArray": "penstock_shm.arrays.array",
    "ShmObjectStore": "penstock_shm.objects.objects",
    "ShmSource": "penstock_shm.channel.source",
    "ShmStore": "penstock_shm.channel.store",
    "clean": "penstock_shm.cleaning",
    "leftovers": "penstock_shm.cleaning",
    "listing": "penstock_shm.cleaning",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
