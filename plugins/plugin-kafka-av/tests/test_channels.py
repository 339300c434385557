"""Channels that begin, end and resume, in a run with the real decoder."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

import penstock as ps
from penstock.decoder import end_of_channel
from penstock_kafka_av.decoder import AvDecoder

TASKS = Path("/proc/self/task")


@pytest.mark.skipif(not TASKS.exists(), reason="only Linux counts threads here")
def test_a_thousand_channels_leave_nothing(make_video, packets_of):
    """Channels that end one after the other yield all their frames; threads and memory do not grow."""
    packets = packets_of(make_video("few.mp4", frames=4))
    seen = []

    def channels():
        for number in range(1000):
            name = f"camera-{number}"
            yield from (packet.replace(channel=name) for packet in packets)
            yield end_of_channel(name, seq=len(packets))

    def watch(record):
        if record.seq == 0:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
            seen.append((len(list(TASKS.iterdir())), resident))

    decoded = ps.source(channels()) >> ps.decoder(AvDecoder(threads=2)) >> ps.processor(watch)
    report = ps.Pipeline(decoded).run()
    assert report.ok
    assert len(seen) == 1000
    threads, resident = zip(*seen, strict=True)
    assert max(threads[100:]) <= max(threads[:100])
    assert max(resident[500:]) - max(resident[:500]) < 32 * 2**20


def test_a_channel_that_comes_back_without_a_keyframe(make_video, packets_of, caplog):
    """After its end a channel resumes at a keyframe; skipped packets are in the report and in the log."""
    packets = packets_of(make_video("back.mp4", bframes=0))
    first, rest = packets[:13], packets[13:]
    first[-1] = first[-1].replace(metadata={**first[-1].metadata, "channel_ends": True})
    with caplog.at_level(logging.WARNING):
        pipeline = ps.Pipeline(ps.source([*first, *rest]) >> ps.decoder(AvDecoder()) >> ps.store("memory"))
        report = pipeline.run()
    assert report.stored == 13 + 20
    assert report.discarded == 7
    assert any("7 packets of channel 'back', from packet 13 on" in line.message for line in caplog.records)


def test_a_channel_without_a_frame_is_reported(make_video, packets_of):
    """Packets of another codec are discarded, none stays buffered, and the report says what to compare."""
    packets = packets_of(make_video("wrong.mp4", bframes=0))
    sound = packets_of(make_video("sound.mp4", bframes=0))
    wrong = [each.replace(metadata={"codec": "hevc"}) for each in packets]
    mixed = [each for pair in zip(wrong, sound, strict=True) for each in pair]
    report = ps.Pipeline(ps.source(mixed) >> ps.decoder(AvDecoder(), name="decode") >> ps.store("memory")).run()
    decode = report.account.node("decode")
    assert (decode.discarded, decode.buffered, report.stored) == (len(wrong), 0, len(sound))
    assert f"none of {len(wrong)} packets of channel 'wrong' gave a frame" in str(report)
    assert "'sound'" not in str(report)
