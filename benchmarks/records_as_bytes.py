"""What it costs to make a record bytes and bytes a record."""

from __future__ import annotations

from collections.abc import Iterator

import numpy
from measure import Row, best

import penstock as ps
from penstock.codec import decode, encode_bytes, encode_into, encoded_size


def rows(scale: float) -> Iterator[Row]:
    """Measure."""
    frame = ps.Record(numpy.random.default_rng(0).integers(0, 4096, (1024, 1024), "uint16"), channel="camera", seq=7)
    buffer = bytearray(encoded_size(frame))
    target = numpy.empty_like(frame.data)
    turns = max(20, int(300 * scale))

    def both() -> None:
        encode_into(frame, buffer)
        decode(buffer)

    ours, theirs = best(both, lambda: numpy.copyto(target, frame.data), turns)
    yield Row(
        name="codec: encode into a buffer and decode, 2 MiB",
        reference="one copy of the same array",
        unit="us",
        figure=ours * 1e6,
        reference_figure=theirs * 1e6,
        ratio=theirs / ours,
        goal=">= 0.9",
        met=theirs / ours >= 0.9,
    )
    small = ps.Record(b"x" * 64, channel="camera", seq=7, time_ns=1, metadata={"gain": 2, "name": "a"})
    encoded = encode_bytes(small)
    again = range(2000)
    for name, work in (
        ("encode", lambda: [encode_bytes(small) for _ in again]),
        ("decode", lambda: [decode(encoded) for _ in again]),
    ):
        ours, theirs = best(work, lambda: [bytes(encoded) + b"" for _ in again], max(5, turns // 10))
        us = ours / len(again) * 1e6
        yield Row(
            name=f"codec: {name} a small record",
            reference="a copy of its bytes",
            unit="us",
            figure=us,
            reference_figure=theirs / len(again) * 1e6,
            ratio=theirs / ours,
            goal="<= 3 us",
            met=us <= 3,
        )
