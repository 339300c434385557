"""Streams of real cameras and archives: odd SEI, parameter sets sent once, parameters only in the container."""

from __future__ import annotations

import ctypes
import logging
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from penstock.codec import decode as from_bytes
from penstock.codec import encode_bytes
from penstock.errors import DecodeError
from penstock.record import Record
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.nal import START, units
from penstock_kafka_av.packet import padded
from penstock_kafka_av.threads import ThreadShare

X265 = {"x265-params": "log-level=none:pools=1:keyint=10:bframes=0:hash=1"}
NOISE_SEI = {"h264": bytes([6, 5, 200]) + b"short", "hevc": bytes([78, 1, 5, 200]) + b"short"}
WRONG_SEI = {"h264": bytes([6, 6, 4]) + b"\x00\x00\x01\x02\x80"[2:] + b"\x80", "hevc": bytes([78, 1, 1, 1, 0, 128])}


def damaged(data):
    """Return a packet with a damaged picture; HEVC detects damage only by the hash after it."""
    return data[:40] + bytes(byte ^ 0x5A for byte in data[40:60]) + data[60:]


def decode(records, decoder=None):
    """Return frames and errors."""
    decoder = decoder or AvDecoder()
    decoder.open()
    frames, errors = [], []
    for record in records:
        if record.discontinuity:
            decoder.reset()
        try:
            frames += decoder.decode(record)
        except DecodeError as error:
            errors.append(error)
    frames += decoder.flush()
    decoder.close()
    return frames, errors


def same(frames, reference):
    """Return whether both have the same pictures, in the same order."""
    return len(frames) == len(reference) and all(
        np.array_equal(frame.data, array) for frame, (_, array) in zip(frames, reference, strict=True)
    )


@pytest.fixture(params=["h264", "hevc"])
def codec(request):
    """Each codec that consists of NAL units."""
    return request.param


@pytest.fixture
def clip(codec, make_video):
    """40 pictures in four GOPs."""
    encoder = "libx264" if codec == "h264" else "libx265"
    return make_video(f"streams-{codec}.mp4", codec=encoder, bframes=0, options=X265 if codec == "hevc" else None)


@pytest.mark.parametrize("sei", [NOISE_SEI, WRONG_SEI], ids=["claims too much", "wrong inside"])
@pytest.mark.parametrize("thread_type", ["slice", "frame"])
def test_sei_that_is_odd_costs_no_picture(clip, codec, direct, packets_of, caplog, sei, thread_type):
    """Unreadable SEI before every picture is left out and reported once; all frames are decoded."""
    packets = [packet.replace(data=START + sei[codec] + packet.data) for packet in packets_of(clip)]
    with caplog.at_level(logging.WARNING):
        frames, errors = decode(packets, AvDecoder(thread_type=thread_type, threads=2))
    assert errors == []
    assert same(frames, list(direct(clip)))
    assert len([line for line in caplog.records if "other than the picture" in line.message]) <= 1


def test_damage_in_a_picture_with_odd_sei_is_an_error(clip, codec, direct, packets_of):
    """Odd SEI does not hide damage of the picture."""
    packets = [packet.replace(data=START + NOISE_SEI[codec] + packet.data) for packet in packets_of(clip)]
    packets[14] = packets[14].replace(data=damaged(packets[14].data))
    frames, errors = decode(packets)
    assert len(errors) == 1
    assert [frame.parent.seq for frame in frames] == [*range(14), *range(20, 40)]
    reference = list(direct(clip))
    assert all(np.array_equal(frame.data, reference[frame.parent.seq][1]) for frame in frames)


@pytest.mark.parametrize("params", ["hrd=1:vbv-maxrate=1000:vbv-bufsize=1000:aud=1", "interlace=1"])
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_hevc_with_timing_sei(make_video, direct, packets_of, params, ending):
    """SEI that refers to parameter sets which only the container has is parsed after them."""
    options = {"x265-params": f"{params}:bitrate=300:keyint=10:log-level=none:pools=1"}
    path = make_video(f"timing-{params[:3]}.{ending}", codec="libx265", options=options, frames=20)
    frames, errors = decode(packets_of(path))
    assert errors == []
    assert same(frames, list(direct(path)))


def is_set(codec, unit):
    """Return whether a NAL unit is a parameter set."""
    return unit[0] & 31 in (7, 8) if codec == "h264" else unit[0] >> 1 & 63 in (32, 33, 34)


def split(codec, data):
    """Return the parameter sets of a packet, and the other units, each with start codes."""
    sets, rest = [], []
    for unit in units(codec, data):
        (sets if is_set(codec, unit.data) else rest).append(START + unit.data)
    return sets, b"".join(rest)


def camera(codec, chunks):
    """Return records of a camera whose only metadata is the codec."""
    return [
        Record(data, channel="camera", seq=seq, time_ns=seq * 40_000_000, metadata={"codec": codec})
        for seq, data in enumerate(chunks)
    ]


@pytest.mark.parametrize("packing", ["one record", "a record each"])
def test_parameter_sets_in_records_of_their_own(clip, codec, direct, packets_of, packing):
    """A record without a picture is decoded with the next one; all frames are decoded without an error."""
    chunks = []
    for packet in packets_of(clip):
        sets, rest = split(codec, packet.data)
        chunks += [b"".join(sets)] * bool(sets) if packing == "one record" else sets
        chunks.append(rest)
    frames, errors = decode(camera(codec, chunks))
    assert errors == []
    assert same(frames, list(direct(clip)))


@pytest.mark.parametrize("fault", ["damaged", "lost", "discontinuity"])
def test_parameter_sets_that_came_once_are_kept(clip, codec, direct, packets_of, fault):
    """A camera that sends parameter sets only at its start resumes at a keyframe after damage, a gap or a reset."""
    packets = [packet.data for packet in packets_of(clip)]
    records = camera(codec, [packets[0], *(split(codec, data)[1] for data in packets[1:])])
    if fault == "damaged":
        records[5] = records[5].replace(data=damaged(records[5].data))
    elif fault == "lost":
        del records[5]
    else:
        records[5] = records[5].replace(discontinuity=True)
    frames, errors = decode(records)
    assert len(errors) == (fault == "damaged")
    reference = list(direct(clip))
    assert {frame.parent.seq for frame in frames} >= {*range(4), *range(10, 40)}
    assert all(np.array_equal(frame.data, reference[frame.parent.seq][1]) for frame in frames)


def test_parameter_sets_of_another_codec_are_forgotten(make_video, direct, packets_of):
    """After a change of codec, the old codec's parameter sets are not used."""
    first, second = make_video("change.mp4", bframes=0), make_video("change-5.mp4", codec="libx265", options=X265)
    records = camera("h264", [packet.data for packet in packets_of(first)])
    others = camera("hevc", [packet.data for packet in packets_of(second)])
    frames, errors = decode([*records, *(record.replace(seq=record.seq + 40) for record in others)])
    assert errors == []
    assert same(frames, [*direct(first), *direct(second)])


RAW = [
    ("rawvideo", "gray", "avi"),
    ("rawvideo", "bgr24", "avi"),
    ("rawvideo", "yuyv422", "avi"),
    ("rawvideo", "rgb24", "mov"),
    ("rawvideo", "gray16le", "nut"),
    ("qtrle", "gray", "mov"),
    ("utvideo", "gbrp", "avi"),
    ("tiff", "rgb24", "mov"),
    ("speedhq", "yuv420p", "avi"),
]


@pytest.mark.parametrize(("encoder", "pixels", "ending"), RAW)
def test_what_only_the_container_says_reaches_the_decoder(make_video, direct, packets_of, encoder, pixels, ending):
    """Frames of raw and lossless recordings equal PyAV's, also after the packets were serialized."""
    path = make_video(f"{encoder}-{pixels}.{ending}", codec=encoder, pixels=pixels, frames=4, bframes=0)
    packets = [from_bytes(encode_bytes(packet)) for packet in packets_of(path)]
    frames, errors = decode(packets)
    assert errors == []
    assert same(frames, list(direct(path)))


def test_parameters_travel_once_a_stream(make_video, packets_of):
    """If all packets are keyframes, the first of each second has the parameters; a restart begins with them, too."""
    path = make_video("once.avi", codec="rawvideo", pixels="gray", frames=60, bframes=0)
    packets = packets_of(path)
    assert [packet.seq for packet in packets if "pix_fmt" in packet.metadata] == [0, 25, 50]
    assert "pix_fmt" in packets_of(path, start=7)[0].metadata


def test_what_is_held_includes_the_parameters(make_video, direct, packets_of):
    """A new decoder that is given the held packets has the parameters, which came packets before."""
    path = make_video("once.avi", codec="rawvideo", pixels="gray", frames=60, bframes=0)
    packets = packets_of(path)
    decoder = AvDecoder()
    for packet in packets[:32]:
        decoder.decode(packet)
    frames, errors = decode([*decoder.held(), *packets[32:]], AvDecoder(on_gap="ignore"))
    assert errors == []
    assert same([frame for frame in frames if frame.parent.seq >= 32], list(direct(path))[32:])


@pytest.mark.parametrize(
    "lie", [{"pix_fmt": "nonsense"}, {"pix_fmt": 7}, {"codec_tag": "x" * 9}, {"bits_per_coded_sample": 10**9}], ids=repr
)
def test_lies_about_the_container_do_no_harm(clip, direct, packets_of, lie):
    """Malformed parameters are ignored."""
    packets = [packet.replace(metadata={**packet.metadata, **lie}) for packet in packets_of(clip)]
    frames, errors = decode(packets)
    assert errors == []
    assert same(frames, list(direct(clip)))


@pytest.mark.parametrize("bframes", [0, 2])
def test_a_decoder_that_rested_goes_on(make_video, direct, packets_of, bframes):
    """After `rest`, no thread and no context is left; the next packet restores them, and no frame is lost."""
    path = make_video(f"rest-{bframes}.mp4", bframes=bframes)
    decoder = AvDecoder(threads=2)
    frames = []
    for packet in packets_of(path):
        frames += decoder.decode(packet)
        if packet.seq in (3, 4, 17, 39):
            decoder.rest()
            assert decoder._engine._context is None
            decoder.rest()
    frames += decoder.flush()
    assert same(frames, list(direct(path)))
    assert [frame.seq for frame in frames] == list(range(40))
    assert (decoder.skipped, decoder.damaged) == (0, 0)


def test_packets_before_a_keyframe_are_named(clip, packets_of, caplog):
    """For a channel that begins without a keyframe, the log has the number of skipped packets, and the first one."""
    with caplog.at_level(logging.WARNING):
        decode(packets_of(clip)[13:])
    (line,) = [line.message for line in caplog.records if "skipped" in line.message]
    assert "7 packets of channel" in line
    assert "from packet 13 on" in line
    assert "keyframe is packet 20" in line


def test_threads_are_shared():
    """Decoders that are open at the same time share the processors, each with at least one thread."""

    class Engine:
        pass

    share, engines = ThreadShare(4), [Engine() for _ in range(6)]
    assert [share.join(engine) for engine in engines] == [4, 2, 1, 1, 1, 1]
    for engine in engines[1:]:
        share.leave(engine)
        share.leave(engine)
    assert share.join(engines[0]) == 4


def test_lazy_pictures_become_arrays_when_asked(clip, direct, packets_of):
    """A lazy decoder converts nothing; its arrays equal those of a converting decoder, from any thread."""
    frames, errors = decode(packets_of(clip), AvDecoder(pixel_format="lazy"))
    assert errors == []
    assert AvDecoder(pixel_format="lazy").gives == "any"
    reference = [array for _, array in direct(clip)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(np.asarray, [frame.data for frame in frames]))
    assert all(np.array_equal(one, other) for one, other in zip(found, reference, strict=True))
    grey = [array for _, array in direct(clip, "gray")]
    assert np.array_equal(frames[3].data.to_array("gray"), grey[3])
    assert frames[3].data.shape == reference[3].shape
    assert frames[3].data.nbytes < reference[3].nbytes


@pytest.mark.parametrize("codec", ["mpeg2video", "mpeg1video"])
def test_headers_that_came_once_are_kept(make_video, direct, packets_of, codec):
    """A stream that sends its sequence header once resumes after a lost packet."""
    path = make_video(f"header-{codec}.mkv", codec=codec, bframes=0)
    remove = BitStreamFilterContext("remove_extra=freq=all", codec)
    chunks = []
    for packet in packets_of(path):
        bare = av.Packet(packet.data)
        bare.is_keyframe = packet.metadata["is_keyframe"]
        chunks.append(bytes(remove.filter(bare)[0]) if packet.seq else packet.data)
    records = camera(codec, chunks)
    frames, _ = decode(records[:5] + records[6:])
    reference = list(direct(path))
    assert {frame.parent.seq for frame in frames} >= {*range(4), *range(10, 40)}
    assert all(np.array_equal(frame.data, reference[frame.parent.seq][1]) for frame in frames)


def test_packets_have_zeros_behind_their_bytes():
    """Decoders read beyond the end of a packet: they find zeros there, and no arbitrary memory."""
    noise = b"\xff" * 1000
    packet = padded(memoryview(noise)[:100].tobytes())
    address = ctypes.c_char * 164
    behind = address.from_address(packet.buffer_ptr)[100:164]
    assert behind == bytes(64)


ODD = {
    "h264": [bytes([6, 5, 200]) + b"short", b"\x08", b"\x68"],
    "hevc": [bytes([78, 1, 5, 200]) + b"short", bytes([80, 1, 132, 200, 1]), bytes([68, 1])],
}


@pytest.mark.parametrize("number", range(3))
def test_odd_units_behind_a_picture_cost_nothing(clip, codec, direct, packets_of, number):
    """SEI and parameter sets that libav rejects in the middle of a picture neither repeat nor lose it."""
    packets = [packet.replace(data=packet.data + START + ODD[codec][number]) for packet in packets_of(clip)]
    frames, errors = decode(packets)
    assert errors == []
    assert same(frames, list(direct(clip)))
