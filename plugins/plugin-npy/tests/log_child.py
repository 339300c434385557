"""What processes do in the tests of the logger: `python log_child.py ACTION DIRECTORY LAYOUT`, or as targets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from penstock_npy import DataLogger, LogPackage


def put_many(queue, source, count, size=16):
    """Put entries of one source, times from 0 on, payload the time."""
    for time in range(count):
        payload = np.frombuffer(time.to_bytes(8, "little").ljust(size, b"\0"), np.uint8)
        queue.put(LogPackage(source, time, payload))


def put_and_die(queue, source, count):
    """Put entries, and be killed right after."""
    put_many(queue, source, count)
    os.kill(os.getpid(), 9)


def own_a_logger(directory, layout):
    """Start a logger, put entries, say so, and wait to be killed."""
    logger = DataLogger(Path(directory), layout=layout)
    logger.start()
    put_many(logger.input_queue, 1, 500)
    print(logger._process.pid, flush=True)
    sys.stdin.read()


def end_without_stop(directory, layout):
    """Start a logger, put entries, and end the program."""
    logger = DataLogger(Path(directory), layout=layout)
    logger.start()
    put_many(logger.input_queue, 1, 500)
    print(logger._process.pid, flush=True)


if __name__ == "__main__":
    {"own_a_logger": own_a_logger, "end_without_stop": end_without_stop}[sys.argv[1]](*sys.argv[2:])
