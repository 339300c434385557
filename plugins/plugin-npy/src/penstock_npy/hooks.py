"""The components of this plugin; imports nothing but penstock."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.component import Component
from penstock.hookspecs import hookimpl


@hookimpl
def penstock_stores() -> Iterable[Component]:
    """Offer the stores of this plugin."""
    return [
        Component(
            "npy",
            "penstock_npy.store:NpyStore",
            summary="each record's array as one .npy file",
            takes="array",
            requires="numpy",
        ),
        Component(
            "npy-stack",
            "penstock_npy.stack_store:NpyStackStore",
            summary="each channel's arrays as one .npy file that grows",
            takes="array",
            requires="numpy",
        ),
        Component(
            "npy-log",
            "penstock_npy.log_store:NpyLogStore",
            summary="each channel's records appended to files, with checksums",
            requires="numpy",
        ),
        Component("json", "penstock_npy.json_store:JsonStore", summary="each record's mapping as one .json file"),
    ]


@hookimpl
def penstock_sources() -> Iterable[Component]:
    """Offer the sources of this plugin."""
    return [
        Component(
            "npy-files",
            "penstock_npy.replay.source:NpyFilesSource",
            summary="the files of a directory (npy, npz, json, jsonl, npy-stack) as records, in a chosen order",
            requires="numpy",
        ),
        Component(
            "npy-log",
            "penstock_npy.log_source:NpyLogSource",
            summary="the records of a log, at full speed or at their pace",
            requires="numpy",
        ),
    ]
