"""The components of this plugin; imports nothing but penstock."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.component import Component
from penstock.hookspecs import hookimpl


@hookimpl
def penstock_sources() -> Iterable[Component]:
    """Offer the source of this plugin."""
    return [
        Component(
            "lmdb",
            "penstock_lmdb.source:LmdbSource",
            summary="the records of an LMDB file, replayed in time",
            requires="lmdb",
        )
    ]


@hookimpl
def penstock_stores() -> Iterable[Component]:
    """Offer the store of this plugin."""
    return [
        Component(
            "lmdb",
            "penstock_lmdb.store:LmdbRecordStore",
            summary="whole records by key in one LMDB file",
            requires="lmdb",
        )
    ]
