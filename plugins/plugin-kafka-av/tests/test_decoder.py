"""AvDecoder returns PyAV's frames, bit by bit, each with its packet."""

from __future__ import annotations

import os
import random

import av
import numpy as np
import pytest

from penstock.decoder import Decoder
from penstock.errors import ConfigError, DecodeError
from penstock.processor import SupportsHeld, SupportsLifecycle
from penstock.record import Record
from penstock_kafka_av.decoder import AvDecoder


def same(frames, reference):
    """Return whether both have the same pictures, in the same order."""
    return len(frames) == len(reference) and all(
        np.array_equal(frame.data, array) for frame, (_, array) in zip(frames, reference, strict=True)
    )


def test_it_is_a_decoder():
    """It has the contract's methods, and the abilities that a run looks for."""
    decoder = AvDecoder()
    assert isinstance(decoder, Decoder)
    assert isinstance(decoder, SupportsHeld)
    assert isinstance(decoder, SupportsLifecycle)
    assert (decoder.takes, decoder.gives) == ("bytes", "array")


def test_frames_are_those_of_pyav(sample, direct, packets_of, decode_all):
    """Number, order and all pixels equal those of `av.open(file).decode(video=0)`."""
    decoder = AvDecoder()
    frames = decode_all(decoder, packets_of(sample))
    assert same(frames, list(direct(sample)))
    assert (decoder.skipped, decoder.damaged) == (0, 0)


def test_a_frame_names_the_packet_that_it_came_from(sample, direct, packets_of, decode_all):
    """With B-frames too, the parent is the packet with the frame's pts, not the one decoded last."""
    packets = packets_of(sample)
    frames = decode_all(AvDecoder(), packets)
    assert [frame.parent.metadata["pts"] for frame in frames] == [pts for pts, _ in direct(sample)]
    assert {frame.parent.seq for frame in frames} == set(range(len(packets)))
    assert [frame.metadata["pts"] for frame in frames] == [frame.parent.metadata["pts"] for frame in frames]
    assert [frame.time_ns for frame in frames] == [frame.parent.time_ns for frame in frames]


def test_b_frames_leave_in_the_order_of_display(carphone, packets_of, decode_all):
    """Packets arrive in decoding order, frames in display order, numbered from 0."""
    packets = packets_of(carphone)
    order = [packet.metadata["pts"] for packet in packets]
    assert order != sorted(order)  # there are B-frames
    frames = decode_all(AvDecoder(), packets)
    times = [frame.time_ns for frame in frames]
    assert times == sorted(times)
    assert [frame.seq for frame in frames] == list(range(len(packets)))
    assert not any(frame.discontinuity for frame in frames)


def test_arrays_are_contiguous_and_own(carphone, packets_of, decode_all):
    """Each array is C-contiguous and writable, and changing it changes no other frame."""
    frames = decode_all(AvDecoder(), packets_of(carphone))
    assert all(frame.data.flags.c_contiguous and frame.data.flags.writeable for frame in frames)
    assert {(frame.data.shape, frame.data.dtype.name) for frame in frames} == {((144, 176, 3), "uint8")}
    before = frames[1].data.copy()
    frames[0].data[:] = 0
    assert np.array_equal(frames[1].data, before)


def test_metadata_keeps_what_the_packet_said_and_leaves_the_decoders_part_out(make_video, packets_of, decode_all):
    """Frames have the packet's codec, size and pts, but neither extradata nor other parameters of decoders."""
    packets = [
        packet.replace(metadata={**packet.metadata, "exposure_ms": 3})
        for packet in packets_of(make_video("meta.mkv", codec="mpeg4"))
    ]
    assert packets[0].metadata["extradata"]
    metadata = decode_all(AvDecoder(), packets)[0].metadata
    assert metadata["exposure_ms"] == 3
    assert (metadata["width"], metadata["height"], metadata["pixel_format"]) == (128, 96, "bgr24")
    assert metadata["is_keyframe"] is True
    assert not {"extradata", "reorder_depth", "color", "dts"} & set(metadata)


@pytest.mark.parametrize("pixel_format", ["bgr24", "rgb24", "gray", "yuv420p", "gray16le", "rgba"])
def test_every_pixel_format_is_pyavs(carphone, direct, packets_of, decode_all, pixel_format):
    """With any format, shape, dtype and values are those of PyAV's conversion."""
    frames = decode_all(AvDecoder(pixel_format=pixel_format), packets_of(carphone)[:20])
    reference = [array for _, array in direct(carphone, pixel_format)][:18]
    for frame, array in zip(frames, reference, strict=False):
        assert frame.data.dtype == array.dtype
        assert np.array_equal(frame.data, array)
        assert frame.data.flags.c_contiguous


@pytest.mark.parametrize("thread_type", ["slice", "frame", "auto"])
def test_threads_change_nothing(carphone, direct, packets_of, decode_all, thread_type):
    """Frames, order and parents do not depend on the number of threads or their kind."""
    frames = decode_all(AvDecoder(threads=3, thread_type=thread_type), packets_of(carphone))
    reference = list(direct(carphone))
    assert same(frames, reference)
    assert [frame.parent.metadata["pts"] for frame in frames] == [pts for pts, _ in reference]


AV1 = next(name for name in ("libsvtav1", "libaom-av1", "librav1e") if name in av.codecs_available)
"""The AV1 encoder of this build of PyAV; every build has one."""

CODECS = {
    "libx265": {"options": {"x265-params": "log-level=none:pools=1"}},
    "mjpeg": {"pixels": "yuvj420p", "bframes": 0},
    "libvpx-vp9": {"bframes": 0, "options": {"deadline": "realtime", "cpu-used": "8"}},
    "ffv1": {"bframes": 0},
    "mpeg4": {},
    AV1: {"bframes": 0, "options": {"preset": "12"} if AV1 == "libsvtav1" else {"cpu-used": "8", "speed": "10"}},
}


@pytest.mark.parametrize("codec", CODECS)
def test_other_codecs(make_video, direct, packets_of, decode_all, codec):
    """HEVC, MJPEG, VP9, FFV1, MPEG-4 and AV1 from Matroska decode as with PyAV, with the right parents."""
    path = make_video(f"{codec}.mkv", codec=codec, **CODECS[codec])
    decoder = AvDecoder()
    frames = decode_all(decoder, packets_of(path))
    reference = list(direct(path))
    assert same(frames, reference)
    assert [frame.parent.metadata["pts"] for frame in frames] == [pts for pts, _ in reference]
    assert (decoder.skipped, decoder.damaged) == (0, 0)
    if hasattr(os, "sched_getscheduler"):
        assert os.sched_getscheduler(0) == os.SCHED_OTHER, "an encoder has left this process with real-time priority"


def cut(packets, seed):
    """Return the same bytes, split elsewhere."""
    rest, number, chance = b"".join(packet.data for packet in packets), 0, random.Random(seed)
    while rest:
        size = chance.choice((1, 3, 50, 700, 9_000, 60_000))
        yield Record(data=rest[:size], channel="cut", seq=number, metadata={"codec": packets[0].metadata["codec"]})
        rest, number = rest[size:], number + 1


@pytest.mark.parametrize("seed", [1, 2])
def test_a_stream_cut_anywhere_loses_nothing(sample, direct, packets_of, decode_all, seed):
    """With packets="stream", records may contain half a packet or thirty packets: all frames are returned."""
    frames = decode_all(AvDecoder(packets="stream"), list(cut(packets_of(sample), seed)))
    assert same(frames, list(direct(sample)))


def test_a_parser_that_gives_several_packets_loses_none(carphone, direct, packets_of):
    """A whole video in one record yields all its frames."""
    packets = packets_of(carphone)
    decoder = AvDecoder(packets="stream", rate=30)
    record = Record(data=b"".join(packet.data for packet in packets), time_ns=5)
    frames = [*decoder.decode(record), *decoder.flush()]
    assert same(frames, list(direct(carphone)))
    assert {id(frame.parent) for frame in frames} == {id(record)}
    assert len({frame.time_ns for frame in frames}) == len(frames)


def test_parents_in_a_stream_are_where_the_packet_begins(carphone, direct, packets_of, decode_all):
    """Although a parser returns packets late, the parent of a frame is the record in which its packet begins."""
    packets = packets_of(carphone)
    frames = decode_all(AvDecoder(packets="stream"), packets)
    assert [frame.parent.metadata["pts"] for frame in frames] == [pts for pts, _ in direct(carphone)]


def test_a_codec_without_parser_cannot_be_cut(make_video, packets_of):
    """A stream of a codec without a parser is rejected with a remedy."""
    record = packets_of(make_video("ffv1.mkv", codec="ffv1", bframes=0))[0]
    decoder = AvDecoder(packets="stream", codec="rawvideo")
    with pytest.raises(DecodeError, match="packets='whole'"):
        decoder.decode(record)


def test_memoryviews_and_arrays_of_bytes_are_packets_too(carphone, direct, packets_of, decode_all):
    """Data may be any buffer: bytes, bytearray, memoryview, uint8 arrays."""
    kinds = (bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8))
    packets = [packet.replace(data=kinds[packet.seq % 4](packet.data)) for packet in packets_of(carphone)]
    assert same(decode_all(AvDecoder(), packets), list(direct(carphone)))


@pytest.mark.parametrize("data", [b"", None, "text", 7], ids=repr)
def test_what_is_no_packet_is_refused_and_changes_nothing(carphone, direct, packets_of, data):
    """Empty data, or data that are not bytes, raise DecodeError with the record; other packets are unaffected."""
    packets = packets_of(carphone)
    decoder = AvDecoder()
    frames = [frame for packet in packets[:50] for frame in decoder.decode(packet)]
    with pytest.raises(DecodeError, match=r"packet 0 of channel 'x'"):
        decoder.decode(Record(data=data, channel="x"))
    frames += [frame for packet in packets[50:] for frame in decoder.decode(packet)] + list(decoder.flush())
    assert same(frames, list(direct(carphone)))


@pytest.mark.parametrize("codec", ["no-such-codec", "aac", 7, None], ids=repr)
def test_metadata_may_not_name_nonsense(carphone, packets_of, codec):
    """A packet with an unknown codec in its metadata, or one that is not for video, is rejected by name."""
    packet = packets_of(carphone)[0]
    with pytest.raises(DecodeError, match=r"codec.*; set codec=…"):
        AvDecoder().decode(packet.replace(metadata={**packet.metadata, "codec": codec}))


@pytest.mark.parametrize(
    "lie", [{"extradata": "x"}, {"extradata": b""}, {"width": -1, "height": 10**9}, {"color": [1]}, {"pts": "now"}]
)
def test_lies_in_metadata_do_no_harm(carphone, direct, packets_of, decode_all, lie):
    """Metadata of packets are not trusted: malformed values with a good packet are ignored."""
    packets = [packet.replace(metadata={**packet.metadata, **lie}) for packet in packets_of(carphone)[:30]]
    frames = decode_all(AvDecoder(), packets)
    assert len(frames) == 30
    assert np.array_equal(frames[0].data, next(direct(carphone))[1])


@pytest.mark.parametrize(
    "settings",
    [{"codec": "no-such-codec"}, {"codec": "aac"}, {"pixel_format": "no-such-format"}, {"pixel_format": "pal8"}],
    ids=repr,
)
def test_open_refuses_what_this_libav_has_not(settings):
    """A wrong codec or pixel format is rejected before the first packet, with its value."""
    value = next(iter(settings.values()))
    with pytest.raises(ConfigError, match=value):
        AvDecoder(**settings).open()


@pytest.mark.parametrize(
    "settings", [{"threads": 0}, {"threads": "many"}, {"packets": "half"}, {"rate": 0}, {"max_held": 1}], ids=repr
)
def test_wrong_settings_are_refused_when_built(settings):
    """A setting out of range raises ValueError at once."""
    with pytest.raises(ValueError):
        AvDecoder(**settings)


def test_building_does_nothing_and_settings_compare():
    """Decoders with equal settings are equal, also after one was used."""
    one, two = AvDecoder(codec="h264"), AvDecoder(codec="h264")
    one.flush()
    assert one == two
    assert one != AvDecoder(codec="hevc")


def test_another_codec_in_the_middle(carphone, make_video, direct, packets_of, decode_all):
    """After a change of codec and size, decoding continues with the new ones, and loses no frame of the old."""
    other = make_video("libx265.mkv", codec="libx265", **CODECS["libx265"])
    first, second = packets_of(carphone), packets_of(other)
    second = [packet.replace(seq=packet.seq + len(first)) for packet in second]
    frames = decode_all(AvDecoder(), first + second)
    assert same(frames, [*direct(carphone), *direct(other)])
    assert sorted(frame.seq for frame in frames) == list(range(len(frames)))


def test_after_flush_the_channel_may_go_on(carphone, direct, packets_of, decode_all):
    """Flush leaves no frame inside, the next keyframe is a start, and numbers continue."""
    decoder, packets = AvDecoder(), packets_of(carphone)
    frames = decode_all(decoder, packets)
    assert list(decoder.flush()) == []
    assert list(decoder.held()) == []
    frames += decode_all(decoder, [packet.replace(seq=packet.seq + 120) for packet in packets])
    assert same(frames, [*direct(carphone), *direct(carphone)])
    assert frames[-1].seq == 239


def test_a_loop_is_no_gap(carphone, direct, packets_of, decode_all):
    """A video that is played three times yields its frames three times, with increasing times."""
    frames = decode_all(AvDecoder(), packets_of(carphone, loop=3))
    assert same(frames, [*direct(carphone)] * 3)
    steps = np.diff([frame.time_ns for frame in frames])
    assert steps.min() > 33_000_000
    assert steps.max() < 34_000_000


def test_frames_are_numbered_alike_wherever_decoding_begins(make_video, packets_of, decode_all):
    """A decoder that begins at a later keyframe gives the same frames the same numbers, with open GOPs too."""
    video = make_video("open-hevc.mkv", codec="libx265", **CODECS["libx265"])
    packets = packets_of(video)
    number_of = {frame.parent.seq: frame.seq for frame in decode_all(AvDecoder(), packets)}
    assert sorted(number_of.values()) == list(range(len(packets)))
    keyframes = [packet.seq for packet in packets if packet.metadata["is_keyframe"]]
    assert len(keyframes) > 1
    for start in keyframes[1:]:
        again = decode_all(AvDecoder(), packets[start:])
        assert again
        assert {frame.parent.seq: frame.seq for frame in again}.items() <= number_of.items()
