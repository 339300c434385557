"""The components of penstock itself."""

from __future__ import annotations

from penstock.component import Component
from penstock.hookspecs import hookimpl


@hookimpl
def penstock_sources() -> list[Component]:
    """Offer the built-in sources."""
    return [
        Component("iterable", "penstock.builtin.iterable:IterableSource", summary="items of a Python iterable"),
        Component(
            "files", "penstock.builtin.files:FilesSource", summary="the files of a directory, by name", gives="bytes"
        ),
        Component(
            "dead-letters",
            "penstock.builtin.letters:DeadLetterSource",
            summary="the records that failed in earlier runs",
        ),
        Component("push", "penstock.builtin.push:PushSource", summary="records that other threads put"),
    ]


@hookimpl
def penstock_decoders() -> list[Component]:
    """Offer the built-in decoders."""
    return [
        Component(
            "record", "penstock.builtin.decode:RecordDecoder", summary="bytes of penstock's own codec", takes="bytes"
        ),
        Component("json", "penstock.builtin.decode:JsonDecoder", summary="JSON text", takes="bytes"),
    ]


@hookimpl
def penstock_processors() -> list[Component]:
    """Offer the built-in processors."""
    return [
        Component("batch", "penstock.builtin.gather:Batch", summary="several records become one list"),
        Component("align", "penstock.builtin.gather:Align", summary="one record for each moment of several channels"),
        Component("filter", "penstock.builtin.choose:Filter", summary="the records that match"),
        Component("sample", "penstock.builtin.choose:Sample", summary="every n-th record of a channel"),
        Component("rate", "penstock.builtin.choose:Rate", summary="limits the records per second"),
        Component("split", "penstock.builtin.choose:Split", summary="each part of an array as a record"),
    ]


@hookimpl
def penstock_stores() -> list[Component]:
    """Offer the built-in stores."""
    return [
        Component("memory", "penstock.builtin.memory:MemoryStore", summary="a dict in this process"),
        Component("null", "penstock.builtin.memory:NullStore", summary="keeps nothing"),
        Component("log", "penstock.builtin.letters:LogStore", summary="one growing file with checksums"),
    ]
