"""Cameras: decoding beside PyAV and comux, recording, aligned frames of four topics, time from produce to frame.

`python benchmarks/kafka_cameras.py` prints a line of JSON for each figure; rates are compared in turns of one run, by
the clock and by processor time. Needs Java and Maven (see plugins/plugin-kafka-av/tests/services); comux is compared
if it can be imported.

A picture of 1080p takes 1.05 ms of processor time to decode and 0.65 ms to convert, in libav; comux spends 0.25 ms
more, on a parser and on a converter for each frame. So 1.5 times its rate for the same processor time is out of reach
as long as arrays are PyAV's, bit by bit: no interpolation flag of swscale changes the time of a conversion without
scaling. With two idle processors, `thread_type="frame"` decodes while the previous picture is converted.

The rate of aligned frames is compared with PyAV on as many threads as there are workers: on a busy machine, more
threads get more of the processors. `lanes_idle` is the part of the time in which the decoding lanes neither ran nor
waited for a processor, so it does not depend on what else the machine does (Linux only); it includes the start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
from confluent_kafka import Producer

import penstock as ps
from penstock.errors import EndOfSource
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.test_picture import TestPictureSource

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "plugin-kafka-av" / "tests" / "services"))
import broker as services

CAMERAS = ("north", "south", "east", "west")
FRAMES_PER_S = 15
WORKERS = 2


def packets(frames: int, *, size: tuple[int, int], rate: int = FRAMES_PER_S) -> list[bytes]:
    """Return the packets of a test picture, without B-frames."""
    source = TestPictureSource(frames=frames, width=size[0], height=size[1], rate=rate, bframes=0)
    source.open()
    found: list[bytes] = []
    try:
        while True:
            found += [record.data for record in source.read(100, 1.0)]
    except EndOfSource:
        return found
    finally:
        source.close()


def bare(data: Sequence[bytes], threads: int, thread_type: str = "SLICE") -> int:
    """Decode with PyAV alone."""
    context = av.CodecContext.create("h264", "r")
    context.thread_count, context.thread_type = threads, thread_type
    count = 0
    for each in [*data, None]:
        for frame in context.decode(None if each is None else av.Packet(each)):
            frame.to_ndarray(format="bgr24")
            count += 1
    return count


def ours(data: Sequence[bytes], threads: int, thread_type: Any = "slice") -> int:
    """Decode with the decoder of penstock."""
    decoder = AvDecoder(threads=threads, thread_type=thread_type)
    count = sum(len(decoder.decode(ps.Record(each, seq=number))) for number, each in enumerate(data))
    count += len(decoder.flush())
    decoder.close()
    return count


def comux(data: Sequence[bytes]) -> int:
    """Decode with comux's decoder, as its consumers call it."""
    from comux.ctx import Decoder

    decoder = Decoder("camera", log_level=0)
    return sum(decoder.decode(each) is not None for each in data)


def compare(what: str, reference: Callable[[], int], own: Callable[[], int], turns: int) -> None:
    """Let both work in turns, and print the ratios of their rates."""
    clock, processor, rates = [], [], []
    for turn in range(turns + 1):
        took, worked = {}, {}
        for key, work in (("own", own), ("reference", reference))[:: 1 if turn % 2 else -1]:
            begun, busy = time.perf_counter(), time.process_time()
            count = work()
            took[key], worked[key] = count / (time.perf_counter() - begun), count / (time.process_time() - busy)
        if turn:  # the first warms up
            clock.append(took["own"] / took["reference"])
            processor.append(worked["own"] / worked["reference"])
            rates.append(took["own"])
    medians = {"ratio": clock, "by_processor_time": processor, "frames_per_s": rates}
    found = {name: round(statistics.median(each), 3) for name, each in medians.items()}
    print(json.dumps({"what": what, **found, "from": round(min(clock), 3), "to": round(max(clock), 3)}), flush=True)


def decode_four(data: Sequence[bytes]) -> int:
    """Decode four cameras with PyAV alone, in as many threads as `aligned` has workers; return the frames of all."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(lambda _: bare(data, 1), CAMERAS))


BUSY_S: dict[int, float] = {}
"""For each thread that closed a NotingDecoder: the seconds for which it ran or waited for a processor."""


class NotingDecoder(AvDecoder):
    """The decoder, which notes at its end how busy its lane was."""

    def close(self) -> None:
        """Close, and read what the kernel counted for this thread."""
        super().close()
        ran_ns, waited_ns, _ = Path("/proc/thread-self/schedstat").read_text().split()
        BUSY_S[threading.get_native_id()] = (int(ran_ns) + int(waited_ns)) / 1e9


def aligned(address: str, prefix: str, decoder: type[AvDecoder] = AvDecoder) -> int:
    """Run Kafka, decoder and `align`; return the frames of all complete moments."""
    names = [f"{prefix}{camera}" for camera in CAMERAS]
    settings = {"bootstrap_servers": address, "start": "beginning", "until_end": True}
    source = ps.source("kafka", topics=names, order="time", **settings)
    frames = source >> ps.decoder(decoder(threads=1), workers=WORKERS)
    moments = frames >> ps.processor("align", channels=names, tolerance_s=0.01)
    stored = ps.Pipeline(moments >> ps.store("null")).run().stored
    return len(CAMERAS) * int(stored)


def idle_lanes(address: str, prefix: str, turns: int) -> None:
    """Print the part of the time for which the lanes of the decoders had nothing to do."""
    found = []
    for _ in range(turns):
        BUSY_S.clear()
        begun = time.perf_counter()
        aligned(address, prefix, NotingDecoder)
        found.append(1 - statistics.mean(BUSY_S.values()) / (time.perf_counter() - begun))
    said = {"lanes_idle": round(statistics.median(found), 3), "from": round(min(found), 3), "to": round(max(found), 3)}
    print(json.dumps({"what": "Kafka to aligned frames of 4 cameras, 720p", **said}), flush=True)


def fill(address: str, prefix: str, data: Sequence[bytes]) -> None:
    """Produce what each camera sends, with the times at which it does."""
    producer = Producer({"bootstrap.servers": address})
    for number, each in enumerate(data):
        for camera in CAMERAS:
            at_ms = 1_700_000_000_000 + number * 1000 // FRAMES_PER_S
            producer.produce(f"{prefix}{camera}", each, timestamp=at_ms)
        producer.poll(0)
    producer.flush()


def send(address: str, prefix: str, seconds: float) -> None:
    """Send four cameras in real time, each packet with the time at which it was produced."""
    data = packets(FRAMES_PER_S * 4, size=(1280, 720))
    producer = Producer({"bootstrap.servers": address, "linger.ms": 0})
    zero = time.monotonic()
    for number in range(round(seconds * FRAMES_PER_S)):
        for index, camera in enumerate(CAMERAS):
            due = zero + (number + index / len(CAMERAS)) / FRAMES_PER_S
            producer.poll(max(0.0, due - time.monotonic()))
            time.sleep(max(0.0, due - time.monotonic()))
            headers = [("sent_ns", str(time.time_ns()).encode())]
            producer.produce(f"{prefix}{camera}", data[number % len(data)], headers=headers)
            producer.poll(0)
    producer.flush()


def latency(address: str, prefix: str, seconds: float) -> None:
    """Print the time from produce to decoded frame."""
    found: list[int] = []

    def note(record: ps.Record) -> None:
        assert record.parent is not None
        headers = dict(record.parent.metadata["headers"])
        found.append(time.time_ns() - int(headers["sent_ns"]))

    source = ps.source("kafka", bootstrap_servers=address, topics=[f"{prefix}{each}" for each in CAMERAS], start="end")
    run = ps.Pipeline(source >> ps.decoder("av", threads=1, workers=2) >> ps.processor(note)).start()
    command = [sys.executable, __file__, "--send", address, prefix, str(seconds)]
    try:
        subprocess.run(command, check=True)
    finally:
        run.stop()
    kept = sorted(found[len(CAMERAS) * FRAMES_PER_S :])  # without the first second
    p50, p99 = (round(kept[min(len(kept) - 1, len(kept) * each // 100)] / 1e6, 1) for each in (50, 99))
    said = {"what": "produce to frame, 4 x 720p x 15/s", "frames": len(kept), "p50_ms": p50, "p99_ms": p99}
    print(json.dumps(said | {"most_ms": round(kept[-1] / 1e6, 1)}), flush=True)


def record(turns: int) -> None:
    """Print how many packets a second a video store writes without encoding, in segments of a minute."""
    source = TestPictureSource(frames=3000, width=1280, height=720, rate=25, bframes=0, channel="front")
    source.open()
    data: list[ps.Record] = []
    try:
        while True:
            data += source.read(100, 1.0)
    except EndOfSource:
        source.close()
    clock, processor = [], []
    for turn in range(turns):
        with tempfile.TemporaryDirectory() as directory:
            store = ps.store("video", path="{{ channel }}-{{ segment }}.mp4", root=directory, segment_s=60)
            begun, busy = time.perf_counter(), time.process_time()
            report = ps.Pipeline(ps.source(list(data), name=f"packets-{turn}") >> store).run()
            assert report.stored == len(data), report
            clock.append(len(data) / (time.perf_counter() - begun))
            processor.append(len(data) / (time.process_time() - busy))
    found = {"packets_per_s": round(statistics.median(clock)), "per_processor_s": round(statistics.median(processor))}
    size = sum(len(each.data) for each in data) // len(data)
    print(json.dumps({"what": "video store, packets unchanged", "size_bytes": size, **found}), flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", default="decode,record,align,latency")
    parser.add_argument("--send", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send:
        send(arguments.send[0], arguments.send[1], float(arguments.send[2]))
        return
    turns = arguments.turns
    if "decode" in arguments.only:
        large = packets(60, size=(1920, 1080))
        compare("1080p beside PyAV, 2 threads", lambda: bare(large, 2), lambda: ours(large, 2), turns)
        compare(
            "1080p beside PyAV, 2 threads by frame",
            lambda: bare(large, 2, "FRAME"),
            lambda: ours(large, 2, "frame"),
            turns,
        )
        try:
            compare("1080p beside comux", lambda: comux(large), lambda: ours(large, 2), turns)
            compare("1080p by frame beside comux", lambda: comux(large), lambda: ours(large, 2, "frame"), turns)
        except ModuleNotFoundError as error:
            print(json.dumps({"what": "comux", "left out": str(error)}))
    if "record" in arguments.only:
        record(turns)
    if "align" not in arguments.only and "latency" not in arguments.only:
        return
    with tempfile.TemporaryDirectory() as directory, services.running(Path(directory)) as broker:
        for prefix in ("kept_", "live_"):
            for camera in CAMERAS:
                broker.topic(f"{prefix}{camera}")
        if "align" in arguments.only:
            small = packets(800, size=(1280, 720))
            fill(broker.address, "kept_", small)
            compare(
                "Kafka to aligned frames of 4 cameras, 720p",
                lambda: decode_four(small),
                lambda: aligned(broker.address, "kept_"),
                turns,
            )
            if sys.platform == "linux":
                idle_lanes(broker.address, "kept_", turns)
        if "latency" in arguments.only:
            latency(broker.address, "live_", arguments.seconds)


if __name__ == "__main__":
    main()
