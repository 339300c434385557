"""Video: decoding to arrays, beside a bare loop of PyAV with the same threads, in turns of one run.

`python benchmarks/video.py` encodes a clip of 1080p, decodes it alone and as eight channels at once, and prints the
ratios of the rates: medians and spreads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av

import penstock as ps
from penstock.errors import EndOfSource
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.picture import encode_test_picture
from penstock_kafka_av.source import VideoSource


def bare(path: Path, threads: int, *, pixels: bool = True) -> int:
    """Decode with PyAV alone; return how many frames there were."""
    count = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "SLICE", threads
        for frame in container.decode(stream):
            if pixels:
                frame.to_ndarray(format="bgr24")
            count += 1
    return count


def alone(path: Path, threads: int, pixel_format: str = "bgr24") -> int:
    """Decode with the source and the decoder, without a run."""
    source, decoder = VideoSource(url=str(path)), AvDecoder(threads=threads, pixel_format=pixel_format)
    source.open()
    count = 0
    try:
        while True:
            for packet in source.read(16, 1.0):
                count += len(decoder.decode(packet))
    except EndOfSource:
        return count + len(decoder.flush())
    finally:
        source.close()
        decoder.close()


def in_run(paths: list[Path], threads: int, workers: int) -> int:
    """Decode these as channels of one run."""
    decoder = ps.decoder(AvDecoder(threads=threads), name="decode", workers=workers)
    store = ps.store("null")
    sources = [ps.source(VideoSource(url=str(path), channel=f"c{number}")) for number, path in enumerate(paths)]
    return ps.Pipeline(*(source >> decoder >> store for source in sources)).run().stored


def bare_at_once(paths: list[Path], threads: int, workers: int) -> int:
    """Decode these with PyAV alone, as many at once as there are workers."""
    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(lambda path: bare(path, threads), paths))


def compare(name: str, reference: Callable[[], int], ours: Callable[[], int], turns: int) -> dict[str, object]:
    """Let both work in turns; return the ratios of their rates, by the clock and by processor time."""
    ratios, processor, rates = [], [], []
    for turn in range(turns + 1):
        took, worked = {}, {}
        for key, work in (("ours", ours), ("bare", reference)) if turn % 2 else (("bare", reference), ("ours", ours)):
            begun, busy = time.perf_counter(), time.process_time()
            count = work()
            took[key], worked[key] = count / (time.perf_counter() - begun), count / (time.process_time() - busy)
        if turn:  # the first warms up
            ratios.append(took["ours"] / took["bare"])
            processor.append(worked["ours"] / worked["bare"])
            rates.append(took["ours"])
    found = {
        "what": name,
        "ratio": round(statistics.median(ratios), 3),
        "from": round(min(ratios), 3),
        "to": round(max(ratios), 3),
        "by_processor_time": round(statistics.median(processor), 3),
        "frames_per_s": round(statistics.median(rates), 1),
    }
    print(json.dumps(found), flush=True)
    return found


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=90)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    turns, threads = arguments.turns, arguments.threads
    ps.Pipeline(ps.source([0]) >> ps.store("null")).run()  # as in any program: a run sets up the allocator first
    with tempfile.TemporaryDirectory() as made:
        large = encode_test_picture(Path(made) / "large.mp4", frames=arguments.frames, size=(1920, 1080))
        compare("1080p, source and decoder", lambda: bare(large, threads), lambda: alone(large, threads), turns)
        compare("1080p, in a run", lambda: bare(large, threads), lambda: in_run([large], threads, 1), turns)
        compare("1080p, lazy", lambda: bare(large, threads, pixels=False), lambda: alone(large, threads, "lazy"), turns)
        small = [encode_test_picture(Path(made) / f"{n}.mp4", frames=30, size=(1920, 1080)) for n in range(8)]
        compare("8 channels at once", lambda: bare_at_once(small, 1, 8), lambda: in_run(small, 1, 2), turns)
        compare("8 channels, two at a time", lambda: bare_at_once(small, 1, 2), lambda: in_run(small, 1, 2), turns)


if __name__ == "__main__":
    main()
