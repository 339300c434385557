"""The components of this plugin by import path, so that nothing is imported before it is used."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.component import Component
from penstock.hookspecs import hookimpl


@hookimpl
def penstock_sources() -> Iterable[Component]:
    """Offer the reading side of channels."""
    return [
        Component(
            "shm", "penstock_shm.channel.source:ShmSource", summary="Read records of other processes in shared memory"
        ),
    ]


@hookimpl
def penstock_stores() -> Iterable[Component]:
    """Offer the writing side of channels, and the object store."""
    return [
        Component(
            "shm", "penstock_shm.channel.store:ShmStore", summary="Pass records to other processes in shared memory"
        ),
        Component(
            "shm-objects",
            "penstock_shm.objects.objects:ShmObjectStore",
            summary="Keep records in shared memory, where all processes of this machine find them by name and id",
        ),
    ]
