"""Times are presentation times, and metadata describe how a frame is displayed."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from penstock.errors import ConfigError, DecodeError, EndOfSource, SourceError
from penstock.record import Record
from penstock_kafka_av.container import Packet
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.encoder import picture_frame
from penstock_kafka_av.order import DisplayOrder
from penstock_kafka_av.source import VideoSource
from penstock_kafka_av.timeline import Timeline


def encode(path, *, codec="libx264", rate=25, frames=30, bframes=2, options=None, prepare=None):
    """Encode the test picture at this rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = 128, 96, "yuv420p"
        context.gop_size, context.max_b_frames, context.thread_count = 10, bframes, 1
        context.options = options or {}
        if prepare is not None:
            prepare(stream)
        for number in range(frames):
            container.mux(stream.encode(picture_frame(number, width=128, height=96)))
        container.mux(stream.encode(None))
    return path


def until(source, end):
    """Return all records of an open source until it ends with this error."""
    records: list[Record] = []
    try:
        while True:
            records += source.read(7, 1.0)
    except end:
        return records


X265 = {"x265-params": "log-level=none:pools=1"}


@pytest.mark.parametrize(
    ("name", "codec", "rate", "says"),
    [
        ("a.h264", "libx264", 30, "open+rate"),
        ("a.hevc", "libx265", 50, "open+rate"),
        ("a.avi", "libx264", 10, "open+rate"),
        ("a.avi", "mpeg4", 10, "open+rate"),
        ("a.mkv", "libx264", 30, "open+pts"),
        ("a.ts", "libx264", 50, "open+pts"),
        ("a.m2v", "mpeg2video", 30, "open+pts"),
    ],
)
@pytest.mark.parametrize("frames", [False, True])
def test_frames_are_timed_as_they_are_shown(tmp_path, drain, decode_all, name, codec, rate, says, frames):
    """With B-frames, and without any pts, time increases by one period per frame; the metadata have its origin."""
    path = encode(tmp_path / name, codec=codec, rate=rate, options=X265 if codec == "libx265" else None)
    source = VideoSource(url=str(path), frames=frames)
    found = drain(source) if frames else decode_all(AvDecoder(), drain(source))
    assert len(found) == 30
    steps = np.diff([frame.time_ns for frame in found])
    assert np.abs(steps - 1e9 / rate).max() < 1e6
    assert {frame.metadata["time_from"] for frame in found} == {says}


def test_a_joined_recording_goes_on_in_time():
    """If dts jumps back, the times continue after one frame period; small steps back are ignored."""
    line = Timeline(unit=Fraction(1, 1000), rate=Fraction(25), has_pts=True)
    stamps = [(0, 0), (40, 40), (5000, 5000), (4990, 4990), (0, 0), (40, 40)]
    placed = [line.place(Packet(b"", pts, dts, 40, True, False)) for pts, dts in stamps]
    assert [place.pts for place in placed] == [0, 40, 5000, 4990, 5030, 5070]
    assert [place.shown_ns // 1_000_000 for place in placed] == [0, 40, 5000, 4990, 5030, 5070]


def test_numbers_follow_the_order_of_display():
    """The n-th frame has the n-th number, even if earlier frames were lost."""
    order = DisplayOrder()
    for serial, pts in enumerate([0, 3, 1, 2, 4]):
        order.sent(serial, seq=10 + serial, time_ns=serial, pts=pts)
    shown = [order.shown(serial, pts=pts, is_key=False) for serial, pts in [(0, 0), (3, 2), (1, 3)]]
    assert [place[0] for place in shown if place] == [10, 12, 13]  # the one with pts 1 was lost


@pytest.mark.parametrize("open_gop", [False, True])
def test_the_same_packets_have_the_same_numbers(make_video, packets_of, decode_all, open_gop):
    """Decoded again from any keyframe, of open or closed GOPs, each frame has the same number."""
    options = {"x264-params": f"open-gop={int(open_gop)}:b-adapt=0:scenecut=0"}
    packets = packets_of(make_video(f"again-{open_gop}.mkv", bframes=3, options=options))
    frames = decode_all(AvDecoder(), packets)
    numbers = {frame.parent.seq: frame.seq for frame in frames}
    assert [frame.seq for frame in frames] == list(range(40))
    keys = [packet.seq for packet in packets if packet.metadata["is_keyframe"]]
    assert len(keys) > 2
    for key in keys:
        again = decode_all(AvDecoder(), packets[key:])
        assert again
        assert {frame.parent.seq: frame.seq for frame in again}.items() <= numbers.items()


def turn(degrees, **flips):
    """Prepare a stream with a rotation."""
    return lambda stream: stream.set_display_rotation(degrees, **flips)


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation(tmp_path, packets_of, decode_all, ending, degrees):
    """The metadata have the same rotation as PyAV; rotate=True applies it."""
    path = encode(tmp_path / f"a.{ending}", frames=3, bframes=0, prepare=turn(degrees))
    with av.open(str(path)) as container:
        said = next(container.decode(video=0)).rotation
    packets = packets_of(path)
    plain, turned = (decode_all(AvDecoder(rotate=rotate), packets) for rotate in (False, True))
    assert {frame.metadata["rotation"] for frame in plain} == {said}
    assert abs(said) == abs(degrees)
    for before, after in zip(plain, turned, strict=True):
        assert np.array_equal(after.data, np.rot90(before.data, degrees // 90))
        assert after.data.shape[:2] == (after.metadata["height"], after.metadata["width"])
        assert after.metadata["rotation"] == 0


def test_mirrored(tmp_path, packets_of, decode_all):
    """A display matrix that mirrors is applied."""
    path = encode(tmp_path / "a.mp4", frames=2, bframes=0, prepare=turn(0, hflip=True))
    packets = packets_of(path)
    plain, turned = (decode_all(AvDecoder(rotate=rotate), packets) for rotate in (False, True))
    assert np.array_equal(turned[0].data, plain[0].data[:, ::-1])


def test_rows_of_planes_cannot_be_turned():
    """rotate=True with a planar pixel format is rejected at open."""
    with pytest.raises(ConfigError, match="rotate=True does not support pixel_format='yuv420p'"):
        AvDecoder(rotate=True, pixel_format="yuv420p").open()


def test_aspect_interlacing_and_colour(tmp_path, packets_of, decode_all):
    """The metadata of each frame have its aspect ratio, interlacing and colours, as PyAV reports them."""

    def with_ratio(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        context = stream.codec_context
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 2, 1, 1, 1

    path = encode(tmp_path / "a.mp4", frames=4, bframes=0, options={"x264-params": "tff=1"}, prepare=with_ratio)
    with av.open(str(path)) as container:
        reference = next(container.decode(video=0))
    metadata = decode_all(AvDecoder(), packets_of(path))[0].metadata
    assert metadata["sample_aspect_ratio"] == [16, 11]
    assert metadata["interlaced"] is reference.interlaced_frame is True
    for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
        assert metadata[name] == int(getattr(reference, name))
    assert metadata["color_range"] == 2


def test_frames_of_a_cut_recording_are_all_there(tmp_path, make_video, direct):
    """With frames=True, a truncated recording yields the frames of all complete packets before its error."""
    whole = make_video("all.mkv", bframes=3).read_bytes()
    path = tmp_path / "all.mkv"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    counts = []
    for frames in (False, True):
        source = VideoSource(url=str(path), frames=frames)
        source.open()
        records = until(source, SourceError)
        counts.append(len(records))
        source.close()
    assert counts[0] == counts[1] > 20


def test_frames_go_on_after_an_error(tmp_path, make_video, direct, drain):
    """When a truncated recording is completed and opened again, it continues with the other frames."""
    path = make_video("on.mkv", bframes=3)
    whole = path.read_bytes()
    cut = tmp_path / "on.mkv"
    cut.write_bytes(whole[: len(whole) * 3 // 4])
    source = VideoSource(url=str(cut), frames=True)
    source.open()
    frames = until(source, SourceError)
    source.close()
    cut.write_bytes(whole)
    frames += drain(source)
    pictures = dict(direct(path))
    assert all(np.array_equal(frame.data, pictures[frame.parent.metadata["pts"]]) for frame in frames)
    assert len({frame.seq for frame in frames}) == len(frames) == 40


PACKET = 188


def video_packets(data):
    """Return the positions of the video stream's transport packets."""
    pids = [(data[at + 1] & 0x1F) << 8 | data[at + 2] for at in range(0, len(data), PACKET)]
    return [number for number, pid in enumerate(pids) if pid == 0x100]


@pytest.mark.parametrize("fault", ["lost", "leap", "joined"])
def test_transport_streams_go_on(tmp_path, make_video, packets_of, direct, fault):
    """After a lost transport packet, a counter gap or a join, reading continues; damage is counted and named."""
    whole = make_video("on.ts", frames=60).read_bytes()
    at = PACKET * video_packets(whole)[len(video_packets(whole)) // 2]
    data = {
        "lost": whole[:at] + whole[at + PACKET :],
        "leap": whole[: at + 3] + bytes([whole[at + 3] & 0xF0 | (whole[at + 3] + 5) & 15]) + whole[at + 4 :],
        "joined": whole + whole,
    }[fault]
    path = tmp_path / "on.ts"
    path.write_bytes(data)
    with av.open(str(path)) as container:
        count = sum(packet.size > 0 for packet in container.demux(video=0))
    source = VideoSource(url=str(path))
    source.open()
    packets = until(source, EndOfSource)
    damaged = [packet.seq for packet in packets if packet.metadata.get("corrupt")]
    assert source.lost_upstream() == {"on": len(damaged)}
    source.close()
    assert len(packets) == count
    assert 1 <= len(damaged) <= 2
    decoder = AvDecoder()
    frames, errors = [], []
    for packet in packets:
        try:
            frames += decoder.decode(packet)
        except DecodeError as error:
            errors.append(str(error))
    frames += decoder.flush()
    assert len(errors) == 1
    assert f"packet {damaged[0]} of channel 'on': was damaged in transmission" in errors[0]
    assert len(frames) >= count - 12
    assert len(frames) + len(errors) + decoder.skipped == count
    assert (np.diff([frame.time_ns for frame in frames]) > 0).all()


def test_a_source_of_frames_turns_them(tmp_path, drain):
    """VideoSource(frames=True, rotate=True) returns frames rotated for display."""
    path = encode(tmp_path / "a.mp4", frames=3, bframes=0, prepare=turn(90))
    plain, turned = (drain(VideoSource(url=str(path), frames=True, rotate=rotate)) for rotate in (False, True))
    assert len(plain) == 3
    for before, after in zip(plain, turned, strict=True):
        assert np.array_equal(after.data, np.rot90(before.data))
