"""D2 on topics: codecs, and streams split at arbitrary bytes, are decoded as PyAV decodes their file."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

import penstock as ps

CODECS = {
    "h264": ("libx264", "d2.mp4", {}),
    "hevc": ("libx265", "d2.mkv", {}),
    "mjpeg": ("mjpeg", "d2.avi", {"gop": 1, "bframes": 0, "pixels": "yuvj420p"}),
    "vp9": ("libvpx-vp9", "d2.webm", {"options": {"deadline": "realtime"}}),
    "ffv1": ("ffv1", "d2-lossless.mkv", {"gop": 1, "bframes": 0}),
}


@pytest.mark.parametrize("codec", CODECS)
def test_d2_codecs(broker, make_video, direct, codec):
    """A recording sent through a topic, packet by packet, decodes to the frames of the file, with any codec."""
    encoder, name, settings = CODECS[codec]
    path = make_video(name, codec=encoder, frames=20, **settings)
    topic = broker.topic()
    kafka = {"bootstrap_servers": broker.address}
    sent = ps.Pipeline(ps.source("video", url=str(path)) >> ps.store("kafka", topic=topic, **kafka)).run()
    assert sent.ok
    messages = ps.source("kafka", topics=[topic], until_end=True, **kafka) >> ps.decoder("record")
    frames = ps.Pipeline(messages >> ps.decoder("av")).collect()
    assert len(frames) == 20
    for frame, (_, array) in zip(frames, direct(path), strict=True):
        assert np.array_equal(frame.data, array)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_d2_cut_anywhere(broker, make_video, packets_of, direct, codec):
    """A stream whose messages end at arbitrary bytes, within packets or after several, yields every frame."""
    encoder, name, settings = CODECS[codec]
    path = make_video(name, codec=encoder, frames=20, **settings)
    stream = b"".join(record.data for record in packets_of(path))
    chance, parts = random.Random(codec), []
    while stream:
        size = chance.choice([1, 7, 100, 4000])
        parts.append(stream[:size])
        stream = stream[size:]
    topic = broker.topic()
    broker.produce(topic, parts)
    source = ps.source("kafka", bootstrap_servers=broker.address, topics=[topic], until_end=True)
    frames = ps.Pipeline(source >> ps.decoder("av", codec=codec, packets="stream", rate=25)).collect()
    assert len(frames) == 20
    for frame, (_, array) in zip(frames, direct(path), strict=True):
        assert np.array_equal(frame.data, array)


def test_d2_a_rate(broker, make_video, packets_of):
    """For a camera on a topic, with B-frames, `rate` keeps some frames unchanged; each packet is in the account."""
    path = make_video("d2-long.mp4", frames=50)
    topic = broker.topic()
    for number, record in enumerate(packets_of(path)):
        broker.produce(topic, [record.data], timestamp=1_700_000_000_000 + 40 * number)
    source = ps.source("kafka", bootstrap_servers=broker.address, topics=[topic], until_end=True)
    report = ps.Pipeline(source >> ps.decoder("av", rate=5, name="decode") >> ps.store("memory")).run()
    assert report.ok
    assert report.stored == 10
    assert report.account.node("decode").thinned == 40


@pytest.mark.parametrize(("on_lag", "first"), [("end", 100), ("keyframe", 90)])
def test_d1_a_jump_in_a_run(broker, make_video, packets_of, direct, on_lag, first):
    """A camera that lags too far behind skips: skipped packets are counted, and decoding resumes at a keyframe."""
    path = make_video("d1.mp4", frames=120)
    packets, pictures = packets_of(path), [array for _, array in direct(path)]
    topic = broker.topic()
    broker.produce(topic, [packet.data for packet in packets[:95]])
    source = ps.source(
        "kafka", name="in", bootstrap_servers=broker.address, topics=[topic], start="beginning", max_lag=30,
        on_lag=on_lag, refresh_s=0.5,
    )  # fmt: skip
    frames = []
    flow = source >> ps.decoder("av", name="decode") >> ps.processor(lambda frame: frames.append(frame))
    with ps.Pipeline(flow).start() as run:
        ends = time.monotonic() + 60
        while run.stats().node("in").dropped_upstream < (95 if on_lag == "end" else 90):
            assert time.monotonic() < ends
            run.wait(0.02)
        broker.produce(topic, [packet.data for packet in packets[95:]])
        while run.stats().node("in").received + run.stats().node("in").dropped_upstream < 120:
            assert time.monotonic() < ends
            run.wait(0.02)
    assert run.report.ok
    assert frames[0].parent.seq == first
    assert [frame.seq for frame in frames] == list(range(first, 120))
    for frame in frames:
        assert np.array_equal(frame.data, pictures[frame.seq])
    discarded = run.report.account.node("decode").discarded
    assert discarded == (5 if on_lag == "end" else 0)
    assert "behind" in " ".join(run.report.remarks)
