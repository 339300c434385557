"""What it costs to make a record bytes and bytes a record: small ones by the time of the processor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy
from measure import Row, medians, time_of_one

import penstock as ps
from penstock.codec import decode, encode_bytes, encode_into, encoded_size

Ring = list[tuple[ps.Record, bytearray, Any]]

STREAM = 32
"""Frames of a camera, one after the other: more than the caches hold, as every frame is a new one."""


def rows(scale: float) -> Iterator[Row]:
    """Measure."""
    frames = [
        ps.Record(numpy.random.default_rng(seq).integers(0, 4096, (1024, 1024), "uint16"), channel="camera", seq=seq)
        for seq in range(STREAM)
    ]
    buffers = [bytearray(encoded_size(frame)) for frame in frames]
    targets = [numpy.empty_like(frame.data) for frame in frames]
    turns = max(20, int(300 * scale))

    stream = list(zip(frames, buffers, targets, strict=True))
    for name, ring in (("a stream of frames", stream), ("one frame, in caches", stream[:1] * STREAM)):

        def both(ring: Ring = ring) -> None:
            for frame, buffer, _ in ring:
                encode_into(frame, buffer)
                decode(buffer)

        def copies(ring: Ring = ring) -> None:
            for frame, _, target in ring:
                numpy.copyto(target, frame.data)

        seconds = medians(both, copies, turns // 4)
        name = f"codec: encode into a buffer and decode, 2 MiB, {name}"
        yield time_of_one(name, "one copy of the same arrays", seconds, "us", STREAM)
    small = ps.Record(b"x" * 64, channel="camera", seq=7, time_ns=1, metadata={"gain": 2, "name": "a"})
    encoded = encode_bytes(small)
    again = range(2000)
    for name, work in (
        ("encode", lambda: [encode_bytes(small) for _ in again]),
        ("decode", lambda: [decode(encoded) for _ in again]),
    ):
        seconds = medians(work, lambda: [bytes(encoded) + b"" for _ in again], turns // 10, time.process_time)
        yield time_of_one(f"codec: {name} a small record", "a copy of its bytes", seconds, "us", len(again))
