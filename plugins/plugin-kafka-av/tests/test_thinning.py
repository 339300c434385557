"""Frames left out because of `rate` or `skip` are counted, and do not change the others."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import penstock as ps
from penstock.record import Record
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.keyframe import is_keyframe
from penstock_kafka_av.pace import Pace

CODECS = {"libx264": "clip.mp4", "libx265": "clip.mkv", "mpeg4": "asp.mkv", "mpeg2video": "clip.ts"}
SECOND = 1_000_000_000


@pytest.fixture
def packets(make_video, packets_of):
    """Two seconds of video at 25 frames per second, with B-frames and a keyframe every ten frames."""
    return packets_of(make_video("thinned.mp4", frames=50))


@pytest.fixture
def as_messages(packets):
    """Return the packets as from a topic: only bytes and arrival times."""
    return [Record(each.data, channel="c", seq=n, time_ns=SECOND + n * SECOND // 25) for n, each in enumerate(packets)]


def agree(some, all_frames):
    """Return whether these frames are among all frames, with the same parents, numbers, times and pixels."""
    whole = {id(frame.parent): frame for frame in all_frames}
    return all(
        (frame.seq, frame.time_ns) == (whole[id(frame.parent)].seq, whole[id(frame.parent)].time_ns)
        and np.array_equal(frame.data, whole[id(frame.parent)].data)
        for frame in some
    )


def first_of_each_fifth(frames):
    """Return the first frame of each fifth of a second; before the first one, another was shown 40 ms earlier."""
    fifths = [(frame.time_ns + 2_000_000) // (SECOND // 5) for frame in frames]
    before = (frames[0].time_ns - SECOND // 25 + 2_000_000) // (SECOND // 5)
    return [frame for frame, own, last in zip(frames, fifths, [before, *fifths], strict=False) if own != last]


@pytest.mark.parametrize("thread_type", ["slice", "frame"])
def test_a_rate_keeps_the_first_picture_of_each_period(packets, decode_all, thread_type):
    """Of 25 frames per second, a rate of 5 keeps every fifth unchanged; the others are counted as thinned."""
    everything = decode_all(AvDecoder(threads=2, thread_type=thread_type), packets)
    decoder = AvDecoder(rate=5, threads=2, thread_type=thread_type)
    frames = decode_all(decoder, packets)
    times = [frame.time_ns for frame in frames]
    assert times == [frame.time_ns for frame in first_of_each_fifth(everything)]
    assert len(times) == 10
    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {SECOND // 5}
    assert agree(frames, everything)
    assert (decoder.thinned, decoder.skipped, decoder.damaged) == (40, 0, 0)


def test_a_rate_of_packets_without_pts(as_messages, decode_all):
    """If packets have only arrival times, frames are selected in display order, also with B-frames."""
    everything = decode_all(AvDecoder(), as_messages)
    frames = decode_all(decoder := AvDecoder(rate=5), as_messages)
    assert [frame.time_ns for frame in frames] == [frame.time_ns for frame in first_of_each_fifth(everything)]
    assert agree(frames, everything)
    assert decoder.thinned == 40


@pytest.mark.parametrize("begin", [10, 20, 30, 40])
@pytest.mark.parametrize("rate", [5, 2, 12.5, 24, 1 / 3])
@pytest.mark.parametrize("kind", ["pts", "messages", "mjpeg"])
def test_a_rate_keeps_the_same_pictures_wherever_decoding_begins(
    packets, as_messages, make_video, packets_of, decode_all, begin, rate, kind
):
    """A decoder that begins at a later keyframe keeps the same frames of the rest of the stream, from the first on."""
    stream = {"pts": packets, "messages": as_messages}.get(kind)
    if stream is None:
        stream = packets_of(make_video("alone.mkv", codec="mjpeg", frames=50, gop=1, bframes=0, pixels="yuvj420p"))
    every = {frame.time_ns for frame in decode_all(AvDecoder(rate=rate), stream)}
    rest = {frame.time_ns for frame in decode_all(AvDecoder(), stream[begin:])}
    assert {frame.time_ns for frame in decode_all(AvDecoder(rate=rate), stream[begin:])} == every & rest


def test_cameras_keep_the_pictures_of_the_same_moments(as_messages, decode_all):
    """Of cameras triggered together, whose times differ by a millisecond around full seconds, a rate keeps the same."""
    early = [each.replace(time_ns=each.time_ns - 1_000_000) for each in as_messages]
    kept = [[frame.seq for frame in decode_all(AvDecoder(rate=5), stream)] for stream in (early, as_messages)]
    assert kept[0] == kept[1] == list(range(0, 50, 5))


def test_a_codec_without_a_frame_rate_may_keep_one_more(make_video, packets_of, decode_all):
    """If nothing gives the stream's frame rate, the first frame is kept in addition; all others are the same."""
    found = packets_of(make_video("alone.mkv", codec="mjpeg", frames=50, gop=1, bframes=0, pixels="yuvj420p"))
    bare = [Record(each.data, channel="c", seq=n, time_ns=SECOND + n * SECOND // 25) for n, each in enumerate(found)]
    frames = [frame.seq for frame in decode_all(AvDecoder(codec="mjpeg", rate=5), bare[13:])]
    assert frames == [13, *range(15, 50, 5)]


def test_packets_before_the_first_keyframe_tell_the_time(as_messages, decode_all):
    """A period in which a packet was skipped, before the first keyframe, gets no further frame."""
    late = [each.replace(time_ns=each.time_ns + SECOND // 50) for each in as_messages]
    kept = {frame.time_ns for frame in decode_all(AvDecoder(rate=1), late)}
    assert {frame.time_ns for frame in decode_all(AvDecoder(rate=1), late[8:])} == kept - {late[0].time_ns}


def test_what_no_picture_refers_to_is_not_decoded(packets, monkeypatch):
    """A rate saves decoding of non-reference packets; all selected frames are still decoded."""
    from penstock_kafka_av.decoding import Decoding

    sent = []
    monkeypatch.setattr(
        Decoding, "_decode", lambda self, *args, _=Decoding._decode: sent.append(args[1].record) or _(self, *args)
    )
    decoder = AvDecoder(rate=5)
    for packet in packets:  # from a full second on, so that keyframes are selected
        decoder.decode(packet.replace(time_ns=packet.time_ns - packets[0].time_ns + SECOND))
    decoder.flush()
    left_out = len(packets) - len(sent)
    assert left_out >= len(packets) // 5  # three of ten frames of each GOP are non-reference B-frames
    assert decoder.thinned == 40


@pytest.mark.parametrize(("codec", "pixels"), [("mjpeg", "yuvj420p"), ("ffv1", "yuv420p")])
def test_a_rate_where_every_picture_stands_alone(make_video, packets_of, decode_all, codec, pixels):
    """With codecs that have keyframes only, each selected frame is unchanged."""
    packets = packets_of(make_video("alone.mkv", codec=codec, frames=25, gop=1, bframes=0, pixels=pixels))
    everything = decode_all(AvDecoder(), packets)
    frames = decode_all(decoder := AvDecoder(rate=5), packets)
    assert len(frames) == 5
    assert agree(frames, everything)
    assert decoder.thinned == 20


@pytest.mark.parametrize("rate", [25, 30, 1000])
def test_a_stream_of_the_wanted_rate_is_whole(as_messages, decode_all, rate):
    """Jitter of a third of the period drops no frame if the stream is not faster than the rate."""
    wavering = [each.replace(time_ns=each.time_ns + (-1) ** n * 6_000_000) for n, each in enumerate(as_messages)]
    assert len(decode_all(AvDecoder(rate=rate), wavering)) == 50


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("has_pts", [True, False])
def test_pictures_that_others_refer_to(make_video, packets_of, decode_all, codec, has_pts):
    """skip="nonref" leaves B-frames out; the others are unchanged, each with its packet, in display order."""
    packets = packets_of(make_video(CODECS[codec], codec=codec, frames=50))
    if not has_pts:
        kept = ("codec", "extradata")
        packets = [p.replace(metadata={k: p.metadata[k] for k in kept if k in p.metadata}) for p in packets]
    everything = decode_all(AvDecoder(), packets)
    frames = decode_all(decoder := AvDecoder(skip="nonref"), packets)
    assert 10 < len(frames) < len(everything)
    assert len(frames) + decoder.thinned == len(packets)
    whole = {id(frame.parent): frame for frame in everything}
    assert all(np.array_equal(frame.data, whole[id(frame.parent)].data) for frame in frames)
    assert [f.seq for f in frames] == sorted({f.seq for f in frames})
    if has_pts:
        assert agree(frames, everything)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_keyframes_only(make_video, packets_of, codec):
    """skip="nonkey" returns each keyframe with the call for its packet, and counts the other packets as thinned."""
    packets = packets_of(make_video(CODECS[codec], codec=codec, frames=50))
    decoder = AvDecoder(skip="nonkey")
    for packet in packets:
        frames = decoder.decode(packet)
        assert [frame.parent for frame in frames] == ([packet] if packet.metadata["is_keyframe"] else [])
    assert not decoder.flush()
    assert decoder.thinned == len([each for each in packets if not each.metadata["is_keyframe"]])


def test_a_codec_whose_packets_do_not_say(make_video, packets_of, decode_all):
    """With VP9, libav selects what it leaves out: that is counted as thinned, and nothing as skipped or damaged."""
    packets = packets_of(make_video("clip.webm", codec="libvpx-vp9", frames=30, options={"deadline": "realtime"}))
    frames = decode_all(decoder := AvDecoder(skip="nonkey"), packets)
    assert all(frame.metadata["is_keyframe"] for frame in frames)
    assert frames
    assert len(frames) + decoder.thinned == len(packets)
    assert (decoder.skipped, decoder.damaged) == (0, 0)


@pytest.mark.parametrize("settings", [{"rate": 5}, {"skip": "nonref"}, {"skip": "nonkey"}])
def test_what_is_thinned_does_not_hide_damage(packets, decode_all, settings):
    """A lost packet costs the frames up to the next keyframe; those are counted as skipped, not as thinned."""
    damaged, decoder = packets[:12] + packets[13:], AvDecoder(**settings)
    frames = decode_all(decoder, damaged)
    assert agree(frames, decode_all(AvDecoder(), damaged))
    assert {frame.parent.seq // 10 for frame in frames} >= {0, 2, 3, 4}
    assert len(frames) + decoder.thinned + decoder.skipped == len(damaged)
    assert decoder.skipped == 7


@pytest.mark.parametrize("settings", [{"rate": 5}, {"skip": "nonref"}])
def test_a_thinned_channel_goes_on_after_a_restart(packets, decode_all, settings):
    """The held packets suffice to continue while packets are left out: no selected frame is missing or damaged."""
    everything = decode_all(AvDecoder(), packets)
    wanted = {frame.seq for frame in decode_all(AvDecoder(**settings), packets)}
    first, second = AvDecoder(**settings), AvDecoder(**settings)
    frames = [frame for packet in packets[:27] for frame in first.decode(packet)]
    frames += decode_all(second, [*first.held(), *packets[27:]])
    assert agree(frames, everything)
    assert {frame.seq for frame in frames} == wanted
    first.close()


@pytest.mark.parametrize("place", ["thread", "process"])
@pytest.mark.parametrize("settings", [{"rate": 5}, {"skip": "nonref"}, {"skip": "nonkey"}])
def test_the_account_of_a_run(packets, place, settings):
    """In a run each packet is decoded or thinned, by channel, and the counters add up."""
    flow = ps.source(packets) >> ps.decoder("av", place=place, **settings) >> ps.store("memory")
    report = ps.Pipeline(flow).run()
    assert report.ok, report
    node = report.account.node("av")
    assert report.thinned == report.to_plain()["thinned"] == node.thinned
    assert node.thinned == len(packets) - report.stored > 0
    assert (node.discarded, node.lost, node.skipped) == (0, 0, 0)
    assert node.channels[packets[0].channel]["thinned"] == node.thinned
    assert "thinned out" in str(report)


@pytest.mark.parametrize("settings", [{"skip": "some"}, {"rate": 0}, {"rate": "5"}])
def test_settings_that_make_no_sense(settings):
    """A wrong setting raises ValueError at once."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        AvDecoder(**settings)


def test_a_clock_that_goes_back_begins_again():
    """The selection starts over where time goes back; frames without a time are all selected."""
    pace = Pace(rate=10)
    assert [pace.wants(each * SECOND // 100) for each in (1000, 1004, 1010, 500, 504, 510)] == [
        True, False, True, True, False, True,
    ]  # fmt: skip
    assert all(pace.wants(0) for _ in range(5))


def test_a_pause_of_the_stream_does_not_stop_the_selection():
    """After a pause of ten minutes, as before it, one of five frames is selected."""
    pace, times = Pace(rate=5), [SECOND + n * SECOND // 25 for n in range(50)]
    times += [each + 600 * SECOND for each in times]
    kept = 0
    for each in times:
        pace.note(each)
        kept += pace.wants(each)
    assert kept == 20


@pytest.mark.parametrize("duration", [0, -1, "x", 1, True])
@pytest.mark.parametrize("base", [[1, 0], [0, 1], "1/25", [1], [1, 10**30], [10**30, 1], None])
def test_lies_about_the_duration_cost_no_picture(as_messages, decode_all, duration, base):
    """Packets whose duration makes no sense are thinned as any others; at most the first periods differ."""
    lying = [each.replace(metadata={"duration": duration, "time_base": base}) for each in as_messages]
    assert 9 <= len(decode_all(AvDecoder(rate=5), lying)) <= 25


BARE = {
    "vp9": ("libvpx-vp9", "clip.webm", {"deadline": "realtime", "lag-in-frames": "0"}),
    "vp8": ("libvpx", "clip.webm", {"deadline": "realtime", "lag-in-frames": "0"}),
    "av1": ("libsvtav1", "clip.mkv", {"preset": "12"}),
    "mpeg1video": ("mpeg1video", "clip.mpg", {}),
    "mpeg2video": ("mpeg2video", "clip.ts", {}),
    "mpeg4": ("mpeg4", "clip.mkv", {}),
    "msmpeg4v3": ("msmpeg4", "clip.mkv", {}),
}
"""Codecs by libav's name: encoder, file and options. Packets of msmpeg4v3 do not show whether they are keyframes."""


@pytest.fixture(params=BARE)
def bare(request, make_video, packets_of):
    """Two seconds of a codec as messages: bytes, the codec's parameters and times, without flags; and the keyframes."""
    codec, file, options = BARE[request.param]
    found = packets_of(make_video(file, codec=codec, frames=50, bframes=0, options=options))
    keys = {n for n, each in enumerate(found) if each.metadata["is_keyframe"]}
    kept = ("extradata", "width", "height", "codec_tag", "pix_fmt")
    messages = [
        Record(
            each.data, channel="c", seq=n, time_ns=SECOND + n * SECOND // 25,
            metadata={"codec": request.param, **{k: each.metadata[k] for k in kept if k in each.metadata}},
        )
        for n, each in enumerate(found)
    ]  # fmt: skip
    return messages, keys


def test_keyframes_of_packets_without_flags(bare, decode_all):
    """skip="nonkey" finds the keyframes of any codec in the packets or after decoding; no packet counts as damaged."""
    messages, keys = bare
    decoder = AvDecoder(skip="nonkey")
    frames = decode_all(decoder, messages)
    assert [frame.parent.seq for frame in frames] == sorted(keys)
    assert (decoder.damaged, decoder.skipped) == (0, 0)
    assert len(frames) + decoder.thinned == len(messages)


@pytest.mark.parametrize("bare", [each for each in BARE if each != "msmpeg4v3"], indirect=True)
def test_a_stream_without_flags_from_the_middle(bare, decode_all):
    """Packets before the first keyframe are skipped; no frame is decoded from what is missing, and no error raised."""
    messages, keys = bare
    begin = min(keys - {0})
    late = [messages[0].replace(data=messages[3].data, seq=3), *messages[4:]]
    decoder = AvDecoder()
    frames = decode_all(decoder, late)
    assert [frame.parent.seq for frame in frames] == list(range(begin, 50))
    assert (decoder.damaged, decoder.skipped) == (0, begin - 3)


@pytest.mark.parametrize("codec", ["vp8", "vp9", "av1", "mpeg1video", "h264", "hevc"])
@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\xff", b"\x0a", b"\x0a\xff\xff", b"\x12\x00\x32" + b"\xff" * 20, b"\x00\x00\x01\x00"]
)
def test_bytes_that_are_no_packet(codec, data):
    """Garbage has an answer, and raises nothing."""
    assert is_keyframe(codec, data) in (True, False, None)
