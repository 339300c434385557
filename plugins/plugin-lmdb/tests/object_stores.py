"""What tests of LMDBStore share: other processes, and what is held or committed."""

from __future__ import annotations

import subprocess
import sys

from penstock_lmdb import (
    LMDBStore,
)

NEVER = 1e6


def child(code, *arguments, **settings):
    """Start a Python process that runs this code."""
    prelude = "import sys, os, signal, time, numpy\nfrom penstock_lmdb import LMDBStore\n"
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings,
    )  # fmt: skip


def held(path):
    """Return what another process finds by name."""
    with LMDBStore(path, load=True) as store:
        return {store.get(key, include_metadata=True).name: store.get(key) for key in store.get_keys()}


def committed(store):
    """Return the names of the objects that do not wait for a commit."""
    waiting = store._buffer.pending()
    keys = [key for key in store.get_keys() if key.encode() not in waiting]
    return {data.name for data in store.get(keys, include_metadata=True)}
