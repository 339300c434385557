"""The components of this plugin. Imports penstock and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.component import Component
from penstock.hookspecs import hookimpl


@hookimpl
def penstock_sources() -> Iterable[Component]:
    """Offer the sources of zenoh records and of HERO events."""
    return [
        Component(
            "zenoh",
            "penstock_zenoh.source:ZenohSource",
            summary="Records, or raw payloads, from publishers on zenoh keys",
            gives="any",
            requires="zenoh",
        ),
        Component(
            "hero",
            "penstock_zenoh.hero.source:HeroSource",
            summary="Events of HEROs (data and metadata), with an account of each acquisition",
            gives="any",
            requires="zenoh",
        ),
    ]


@hookimpl
def penstock_stores() -> Iterable[Component]:
    """Offer the stores that publish records, and that emit HERO events."""
    return [
        Component(
            "zenoh",
            "penstock_zenoh.store:ZenohStore",
            summary="Publishes records on zenoh keys and waits for the receipts of the sources there",
            takes="any",
            requires="zenoh",
        ),
        Component(
            "hero",
            "penstock_zenoh.hero.store:HeroStore",
            summary="Emits records as events of a HERO",
            takes="any",
            requires="zenoh",
        ),
    ]
