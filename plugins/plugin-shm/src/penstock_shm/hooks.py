"""The components of this plugin, by import path: nothing is imported before it is used."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.component import Component
from penstock.hookspecs import hookimpl


@hookimpl
def penstock_sources() -> Iterable[Component]:
    """Offer the channel's reading side."""
    return [
        Component(
            "shm", "penstock_shm.channel.source:ShmSource", summary="Read records of other processes in shared memory"
        ),
    ]


@hookimpl
def penstock_stores() -> Iterable[Component]:
    """Offer the channel's writing side, and the store of objects in memory."""
    return [
        Component(
            "shm", "penstock_shm.channel.store:ShmStore", summary="Hand records to other processes in shared memory"
        ),
        Component(
            "shm-objects",
            "penstock_shm.objects.objects:ShmObjectStore",
            summary="Keep records in memory, where every process of this machine finds them by name and id",
        ),
    ]
