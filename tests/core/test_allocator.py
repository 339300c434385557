"""A run configures the memory allocator, once, unless the user has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from penstock.run.lanes import allocator

PROGRAM = """
import ctypes
import sys
import numpy as np
import penstock as ps

stats = getattr(ctypes.CDLL(None), "malloc_stats", lambda: None)

def pictures():
    for number in range(20):
        yield np.zeros((1080, 1920, 3), np.uint8)

stats()
print("run", file=sys.stderr, flush=True)
ps.Pipeline(ps.source(pictures()) >> ps.processor(lambda record: record, workers=6) >> ps.store("null")).run(check=True)
stats()
"""


def heaps(**environment):
    """Return how many heaps glibc makes in a run with several threads; 0 if it is not glibc."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    clean["OPENBLAS_NUM_THREADS"] = "1"  # its threads have heaps of their own
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, env=clean | environment, check=True
    )
    before, _, after = done.stderr.partition("run\n")
    return after.count("Arena ") - before.count("Arena ")


def test_all_lanes_share_the_heaps_that_there_are():
    """Memory freed in one lane is reused by another: no lane gets its own heap (discovery may create one)."""
    assert heaps() <= 2


@pytest.mark.parametrize(
    "environment", [{"MALLOC_ARENA_MAX": "8"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=8"}], ids=str
)
def test_what_the_user_set_up_stays(environment):
    """If the environment configures the allocator, a run does not."""
    assert (heaps(**environment) > 3) == allocator.is_glibc()
