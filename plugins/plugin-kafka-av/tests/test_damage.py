"""Damage, gaps and restarts: no damaged frame is returned, and no loss is uncounted."""

from __future__ import annotations

import random

import numpy as np
import pytest

from penstock.errors import DecodeError
from penstock_kafka_av.decoder import AvDecoder


@pytest.fixture
def clip(make_video):
    """40 frames with B-frames and a keyframe every ten packets."""
    return make_video("clip.mp4")


@pytest.fixture
def pictures(clip, direct):
    """Return the frame of each packet of the clip, by pts."""
    return dict(direct(clip))


def decode(decoder, packets):
    """Return frames and errors of these packets."""
    frames, errors = [], []
    for packet in packets:
        try:
            frames += decoder.decode(packet)
        except DecodeError as error:
            errors.append(error)
    return [*frames, *decoder.flush()], errors


def are_true(frames, pictures):
    """Return whether every frame is exactly the picture of its packet."""
    return all(np.array_equal(frame.data, pictures[frame.parent.metadata["pts"]]) for frame in frames)


@pytest.mark.parametrize("thread_type", ["slice", "frame"])
def test_a_packet_cut_in_half(clip, pictures, packets_of, thread_type):
    """Damage raises DecodeError with the packet; no damaged frame is returned; decoding resumes at a keyframe."""
    packets = packets_of(clip)
    packets[14] = packets[14].replace(data=packets[14].data[: len(packets[14].data) // 2])
    decoder = AvDecoder(thread_type=thread_type, threads=2)
    frames, errors = decode(decoder, packets)
    assert len(errors) == decoder.damaged == 1
    assert "continues" not in str(errors[0])
    assert "decoding resumes at the next keyframe" in str(errors[0])
    if thread_type == "slice":
        assert "packet 14 of channel 'clip'" in str(errors[0])
    assert are_true(frames, pictures)
    assert {frame.parent.seq for frame in frames} >= {*range(8), *range(20, 40)}
    assert [frame.discontinuity for frame in frames if frame.parent.seq == 20] == [True]
    assert sum(frame.discontinuity for frame in frames) == 1
    assert [frame.seq for frame in frames][-20:] == list(range(20, 40))
    assert [frame.seq for frame in frames] == sorted({frame.seq for frame in frames})


def test_noise_in_place_of_a_packet(clip, pictures, packets_of):
    """Random bytes cause an error, never a crash or a frame."""
    packets = packets_of(clip)
    for seed in range(30):
        chance = random.Random(seed)
        noisy = packets.copy()
        at = chance.randrange(len(packets))
        noise = chance.randbytes(chance.choice((1, 20, 3000)))
        noisy[at] = packets[at].replace(data=noise)
        frames, _ = decode(AvDecoder(), noisy)
        assert are_true([frame for frame in frames if frame.parent.seq < at], pictures)


def test_bits_that_flip(clip, packets_of, pictures):
    """After the decoder has reported damage, every frame that it returns is correct."""
    packets = packets_of(clip)
    reported = 0
    for seed in range(30):
        chance = random.Random(seed)
        at = chance.randrange(1, len(packets))
        data = bytearray(packets[at].data)
        for _ in range(6):
            data[chance.randrange(5, len(data))] ^= 1 << chance.randrange(8)
        flipped = packets.copy()
        flipped[at] = packets[at].replace(data=bytes(data))
        decoder = AvDecoder()
        frames, errors = decode(decoder, flipped)
        if errors and f"packet {at} " in str(errors[0]):  # at once; CABAC may also accept wrong bits
            reported += 1
            assert are_true(frames, pictures)
    assert reported >= 10


def test_a_missing_packet(clip, pictures, packets_of):
    """After a gap in seq, complete frames before it are returned, then the next keyframe; the rest is counted."""
    packets = packets_of(clip)
    decoder = AvDecoder()
    frames, errors = decode(decoder, packets[:13] + packets[14:])
    assert errors == []
    assert are_true(frames, pictures)
    assert {frame.parent.seq for frame in frames} == {*range(13), *range(20, 40)}
    assert decoder.skipped == 6


def test_a_missing_packet_may_be_ignored(clip, packets_of):
    """on_gap="ignore" continues to decode, for a sender whose numbers have gaps."""
    packets = [packet.replace(seq=packet.seq * 5) for packet in packets_of(clip)]
    decoder = AvDecoder(on_gap="ignore")
    frames, errors = decode(decoder, packets)
    assert (len(frames), len(errors), decoder.skipped) == (40, 0, 0)


@pytest.mark.parametrize("says_keyframe", [True, False])
def test_a_channel_joined_in_the_middle(clip, pictures, packets_of, says_keyframe):
    """Packets before the first keyframe are counted and yield no frame, detected by metadata or bytes."""
    packets = packets_of(clip)[13:]
    if not says_keyframe:
        packets = [packet.replace(metadata={"codec": "h264", "pts": packet.metadata["pts"]}) for packet in packets]
    decoder = AvDecoder()
    frames, errors = decode(decoder, packets)
    assert errors == []
    assert are_true(frames, pictures)
    assert {frame.parent.seq for frame in frames} == set(range(20, 40))
    assert decoder.skipped == 7


@pytest.mark.parametrize("codec", ["libvpx-vp9", "ffv1", "libx265", "mpeg4"])
def test_joined_in_the_middle_without_a_word_on_keyframes(make_video, direct, packets_of, codec):
    """If neither metadata nor bytes tell keyframes, the decoder does; no frame before one is returned."""
    options = {"libvpx-vp9": {"deadline": "realtime"}, "libx265": {"x265-params": "log-level=none:pools=1"}}
    path = make_video(f"join-{codec}.mkv", codec=codec, bframes=0, options=options.get(codec))
    packets = packets_of(path)
    known = packets[0].metadata.get("extradata")
    start = 3
    packets = [
        packet.replace(
            metadata={key: packet.metadata[key] for key in ("codec", "pts", "width", "height")} | {"extradata": known}
        )
        for packet in packets[start:]
    ]
    decoder = AvDecoder()
    frames, _ = decode(decoder, packets)
    assert frames
    assert frames[0].metadata["is_keyframe"]
    assert are_true(frames, dict(direct(path)))
    assert len(frames) + decoder.skipped + decoder.damaged == len(packets)


def test_reset_forgets(clip, pictures, packets_of):
    """After reset, no earlier frame is returned, and the next one is a keyframe marked as a discontinuity."""
    packets = packets_of(clip)
    decoder = AvDecoder()
    before = [frame for packet in packets[:14] for frame in decoder.decode(packet)]
    decoder.reset()
    assert list(decoder.held()) == []
    frames, _ = decode(decoder, packets[14:])
    assert frames[0].parent.seq == 20
    assert are_true(frames, pictures)
    assert frames[0].discontinuity
    assert frames[0].seq == 20
    assert [frame.seq for frame in before] == list(range(len(before)))


def test_a_discontinuity_is_handed_on(clip, packets_of):
    """If the first packet is a discontinuity, so is the first frame."""
    packets = packets_of(clip)
    packets[0] = packets[0].replace(discontinuity=True)
    frames, _ = decode(AvDecoder(), packets)
    assert [frame.seq for frame in frames if frame.discontinuity] == [0]


@pytest.mark.parametrize("has_pts", [True, False])
def test_frames_of_an_open_group_need_the_group_before(make_video, direct, packets_of, has_pts):
    """In a channel joined at a keyframe, its leading B-frames are left out."""
    path = make_video("open.mkv", bframes=3, gop=10, options={"x264-params": "open-gop=1:b-adapt=0:scenecut=0"})
    packets = packets_of(path)
    keys = [packet.seq for packet in packets if packet.metadata["is_keyframe"]]
    assert len(keys) > 2
    start = packets[keys[1]]
    leading = [packet for packet in packets[keys[1] :] if packet.metadata["pts"] < start.metadata["pts"]]
    assert leading  # the encoder did make open GOPs
    reference = {packet.seq: dict(direct(path))[packet.metadata["pts"]] for packet in packets}
    if not has_pts:
        metadata = {"codec": "h264"}
        packets = [packet.replace(metadata=metadata) for packet in packets]
    decoder = AvDecoder()
    frames, errors = decode(decoder, packets[keys[1] :])
    assert errors == []
    assert all(np.array_equal(frame.data, reference[frame.parent.seq]) for frame in frames)
    assert frames[0].parent.seq == start.seq
    assert len(leading) <= decoder.skipped <= len(leading) + 1  # libav may reject one that could refer further back
    assert len(frames) + decoder.skipped + decoder.damaged == len(packets) - start.seq


def test_held_is_enough_to_go_on(clip, pictures, packets_of):
    """A new decoder that is given the held packets and then the rest returns every frame that was not out yet."""
    packets = packets_of(clip)
    for stop in range(1, len(packets)):
        decoder = AvDecoder()
        out = [frame for packet in packets[:stop] for frame in decoder.decode(packet)]
        held = list(decoder.held())
        assert held == packets[held[0].seq : stop]
        assert len(held) <= 23  # a GOP and the reorder delay
        again, errors = decode(AvDecoder(), held + packets[stop:])
        assert errors == []
        assert are_true(again, pictures)
        assert {f.parent.seq for f in out} | {f.parent.seq for f in again} == set(range(40))


def test_held_is_bounded(carphone, packets_of):
    """If a channel sends a single keyframe, the decoder still holds no more than max_held packets."""
    packets = packets_of(carphone)
    decoder = AvDecoder(max_held=64)
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    assert len(list(decoder.held())) == 64
    assert len([*frames, *decoder.flush()]) == 120


def test_held_in_a_stream_names_what_the_parser_still_has(clip, packets_of):
    """With packets="stream", the record of an incomplete packet is held, too."""
    packets = packets_of(clip)
    decoder = AvDecoder(packets="stream")
    for packet in packets[:5]:
        decoder.decode(packet)
    assert [record.seq for record in decoder.held()] == [0, 1, 2, 3, 4]


def test_damaged_pictures_may_be_kept(clip, packets_of):
    """keep_corrupt=True returns frames with concealed damage, and does not wait for a keyframe."""
    packets = packets_of(clip)
    packets[14] = packets[14].replace(data=packets[14].data[: len(packets[14].data) // 2])
    decoder = AvDecoder(keep_corrupt=True)
    frames, _ = decode(decoder, packets)
    assert len(frames) >= 38
    assert decoder.skipped == 0


def test_a_claim_of_a_huge_picture_takes_no_memory(make_video, packets_of):
    """A stream that claims more than 128 million pixels is rejected without allocation."""
    packet = packets_of(make_video("huge.mkv", codec="ffv1", bframes=0))[0]
    from penstock_kafka_av import context

    assert context.MAX_PIXELS == 1 << 27
    decoder = AvDecoder(codec="rawvideo", width=16384, height=16384)
    with pytest.raises(DecodeError):
        decoder.decode(packet.replace(metadata={}))
