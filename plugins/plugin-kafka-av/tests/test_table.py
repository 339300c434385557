"""A table of codecs, containers and oddities: where penstock equals PyAV, and one sentence where it does not.

`nox -s video` makes all rows, and writes the table; the tests of the plugin make every fifth.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import av
import numpy as np
import pytest

from penstock.errors import DecodeError, EndOfSource, SourceError
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.encoder import draw_test_picture
from penstock_kafka_av.source import VideoSource

COLUMNS = ("frames", "pixels", "times", "metadata")
WHOLE = os.environ.get("PENSTOCK_VIDEO_TABLE")  # where to write the table
NONE: dict[str, str] = {}


@attrs.frozen
class Row:
    """One video, and its known differences."""

    name: str
    codec: str
    ending: str
    pixels: str = "yuv420p"
    frames: int = 12
    size: tuple[int, int] = (160, 112)
    rate: Any = 25
    bframes: int = 0
    gop: int = 6
    options: dict[str, str] = NONE
    muxing: dict[str, str] = NONE
    prepare: Callable[[Any], None] | None = None
    damage: Callable[[bytes], bytes] | None = None
    differs: dict[str, str] = NONE

    def make(self, directory: Path) -> Path:
        """Encode it."""
        path = directory / f"clip.{self.ending}"
        width, height = self.size
        with av.open(str(path), "w", options=self.muxing) as container:
            stream = container.add_stream(self.codec, rate=self.rate)
            context = stream.codec_context
            context.width, context.height, context.pix_fmt = width, height, self.pixels
            context.gop_size, context.max_b_frames, context.thread_count = self.gop, self.bframes, 1
            context.options = {"strict": "-2", **self.options}
            if self.prepare is not None:
                self.prepare(stream)
            for number in range(self.frames):
                picture = draw_test_picture(number, width=width, height=height)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, 1 / Fraction(self.rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if self.damage is not None:
            path.write_bytes(self.damage(path.read_bytes()))
        return path


def colours(*numbers):
    """Prepare a stream with these colours: range, matrix, primaries, transfer."""

    def prepare(stream):
        context = stream.codec_context
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = numbers

    return prepare


def aspect(stream):
    """Prepare a stream with non-square pixels."""
    stream.codec_context.sample_aspect_ratio = Fraction(64, 45)


def turned(degrees, **flips):
    """Prepare a stream with a rotation."""
    return lambda stream: stream.set_display_rotation(degrees, **flips)


def bit_rate(number):
    """Prepare a stream with this bitrate."""
    return lambda stream: setattr(stream.codec_context, "bit_rate", number)


def without_transport_packet(data):
    """Return a transport stream without one packet in the middle."""
    at = [n for n in range(0, len(data), 188) if (data[n + 1] & 31) << 8 | data[n + 2] == 0x100]
    lost = at[len(at) // 2]
    return data[:lost] + data[lost + 188 :]


X265 = {"x265-params": "log-level=none:pools=1:keyint=6"}
HRD = "log-level=none:pools=1:keyint=6:hrd=1:vbv-maxrate=1000:vbv-bufsize=1000:bitrate=500"
FAST = {"preset": "ultrafast"}
SKIPPED = "damage is an error; pictures that refer to it are skipped, where libav paints over it"
H264, HEVC = "libx264", "libx265"

ROWS = [
    *(Row(f"H.264 in {each}", H264, each, bframes=2) for each in ("mp4", "mov", "mkv", "ts", "avi", "flv", "h264")),
    *(Row(f"HEVC in {each}", HEVC, each, bframes=2, options=X265) for each in ("mp4", "mov", "mkv", "ts", "hevc")),
    Row("H.264, fragmented", H264, "mp4", bframes=2, muxing={"movflags": "frag_keyframe+empty_moov"}),
    Row("H.264, 30000/1001 a second", H264, "mp4", rate=Fraction(30000, 1001)),
    Row("H.264, open groups", H264, "mkv", bframes=3, options={"x264-params": "open-gop=1:b-adapt=0:scenecut=0"}),
    Row("H.264, intra refresh", H264, "mp4", options={"x264-params": "intra-refresh=1:keyint=6"}),
    Row("H.264, several slices", H264, "mp4", options={"x264-params": "slices=4"}),
    Row("H.264, fields", H264, "mp4", options={"x264-params": "tff=1"}),
    Row("H.264, 10 bits", H264, "mp4", pixels="yuv420p10le"),
    Row("H.264, 4:2:2", H264, "mkv", pixels="yuv422p"),
    Row("H.264, odd size", H264, "mp4", pixels="yuv444p", size=(159, 111)),
    Row("H.264, RGB", "libx264rgb", "mkv", pixels="rgb24"),
    Row("H.264, full range", H264, "mp4", prepare=colours(2, 1, 1, 1)),
    Row("H.264, BT.2020", H264, "mkv", prepare=colours(1, 9, 9, 14)),
    Row("H.264, wide pixels", H264, "mp4", prepare=aspect),
    *(Row(f"H.264, turned by {d}", H264, "mp4", prepare=turned(d)) for d in (90, 180, -90)),
    Row("H.264, mirrored", H264, "mov", prepare=turned(0, hflip=True)),
    Row("H.264, turned in Matroska", H264, "mkv", prepare=turned(90)),
    Row("H.264, one picture", H264, "mp4", frames=1),
    Row("H.264, two recordings joined", H264, "ts", damage=lambda data: data + data,
        differs={"frames": "the picture at the joint arrives marked as damaged, and is an error",
                 "pixels": "the picture at the joint is missing", "metadata": "the picture at the joint is missing"}),
    Row("H.264, a transport packet lost", H264, "ts", frames=24, damage=without_transport_packet,
        differs={"frames": SKIPPED, "pixels": SKIPPED, "metadata": SKIPPED, "times": "skipped pictures leave a gap"}),
    Row("H.264, cut short", H264, "mkv", frames=24, damage=lambda data: data[: len(data) * 2 // 3]),
    Row("HEVC, HRD SEI", HEVC, "mp4", options={"x265-params": HRD}),
    Row("HEVC, HRD SEI and delimiters", HEVC, "mkv", options={"x265-params": HRD + ":aud=1"}),
    Row("HEVC, fields", HEVC, "mp4", options={"x265-params": X265["x265-params"] + ":interlace=1"}),
    Row("HEVC, 10 bits", HEVC, "mp4", pixels="yuv420p10le", options=X265),
    Row("MPEG-1 in MPEG-PS", "mpeg1video", "mpg", bframes=2),
    Row("MPEG-2 in MPEG-TS", "mpeg2video", "ts", bframes=2),
    Row("MPEG-2, bare", "mpeg2video", "m2v", bframes=2),
    Row("MPEG-4 in MP4", "mpeg4", "mp4", bframes=2),
    Row("MPEG-4 in AVI", "mpeg4", "avi", bframes=2),
    Row("MS-MPEG-4 in AVI", "msmpeg4", "avi"),
    Row("WMV 2 in ASF", "wmv2", "asf"),
    Row("H.263 in 3GP", "h263", "3gp", size=(176, 144)),
    Row("FLV 1", "flv", "flv"),
    Row("VP8 in WebM", "libvpx", "webm", options={"deadline": "realtime", "cpu-used": "8"}),
    Row("VP9 in WebM", "libvpx-vp9", "webm", options={"deadline": "realtime", "cpu-used": "8"}),
    Row("VP9 in IVF", "libvpx-vp9", "ivf", options={"deadline": "realtime", "cpu-used": "8"}),
    Row("Motion JPEG in AVI", "mjpeg", "avi", pixels="yuvj420p"),
    Row("Motion JPEG in MOV", "mjpeg", "mov", pixels="yuvj422p"),
    Row("Motion JPEG, bare", "mjpeg", "mjpeg", pixels="yuvj420p"),
    Row("ProRes in MOV", "prores_ks", "mov", pixels="yuv422p10le"),
    Row("DNxHD in MOV", "dnxhd", "mov", pixels="yuv422p", size=(1280, 720), frames=3, prepare=bit_rate(90_000_000)),
    Row("DV", "dvvideo", "dv", pixels="yuv411p", size=(720, 480), rate=Fraction(30000, 1001), frames=3),
    Row("JPEG 2000 in MOV", "jpeg2000", "mov", pixels="rgb24", frames=4),
    Row("Raw grey in AVI", "rawvideo", "avi", pixels="gray"),
    Row("Raw BGR in AVI", "rawvideo", "avi", pixels="bgr24"),
    Row("Raw YUYV in AVI", "rawvideo", "avi", pixels="yuyv422"),
    Row("Raw RGB in MOV", "rawvideo", "mov", pixels="rgb24"),
    Row("Raw UYVY in MOV", "rawvideo", "mov", pixels="uyvy422"),
    Row("Raw 16 bits in NUT", "rawvideo", "nut", pixels="gray16le"),
    Row("Raw in YUV4MPEG", "wrapped_avframe", "y4m"),
    Row("v210 in MOV", "v210", "mov", pixels="yuv422p10le"),
    Row("QuickTime animation", "qtrle", "mov", pixels="rgb24"),
    Row("QuickTime animation, grey", "qtrle", "mov", pixels="gray"),
    Row("Ut Video in AVI", "utvideo", "avi", pixels="gbrp"),
    Row("HuffYUV in AVI", "huffyuv", "avi", pixels="rgb24"),
    Row("MagicYUV in AVI", "magicyuv", "avi", pixels="gbrp"),
    Row("FFV1 in Matroska, 16 bits", "ffv1", "mkv", pixels="gray16le"),
    Row("FFV1 in AVI, odd size", "ffv1", "avi", size=(159, 111)),
    Row("SpeedHQ in AVI", "speedhq", "avi"),
    Row("TIFF in MOV", "tiff", "mov", pixels="rgb24"),
    Row("PNG in MOV", "png", "mov", pixels="rgba"),
    Row("GIF", "gif", "gif", pixels="rgb8"),
    Row("Animated PNG", "apng", "apng", pixels="rgba"),
    Row("Cinepak in AVI", "cinepak", "avi", pixels="rgb24", frames=4),
    Row("ZMBV in AVI", "zmbv", "avi", pixels="bgr0"),
    Row("Flash Screen in FLV", "flashsv", "flv", pixels="bgr24"),
]  # fmt: skip


def by_pyav(path):
    """Return the frames of a file and the stream's aspect ratio, read by PyAV alone."""
    with av.open(str(path)) as container:
        frames, stream = [], container.streams.video[0]
        try:
            for frame in container.decode(video=0):
                frames.append((frame, frame.to_ndarray(format="bgr24")))
        except av.FFmpegError:
            pass
        return frames, stream.sample_aspect_ratio


def by_penstock(path):
    """Return the records of source and decoder."""
    source, decoder = VideoSource(url=str(path)), AvDecoder(threads=1)
    source.open()
    decoder.open()
    frames = []
    try:
        while True:
            for packet in source.read(50, 1.0):
                with contextlib.suppress(DecodeError):
                    frames += decoder.decode(packet)
    except (EndOfSource, SourceError):
        return [*frames, *decoder.flush()]
    finally:
        source.close()
        decoder.close()


def compare(row, path):
    """Return the cells of a row: "same", or the difference."""
    reference, ratio = by_pyav(path)
    frames = by_penstock(path)
    cells = dict.fromkeys(COLUMNS, "same")
    if len(frames) != len(reference):
        cells["frames"] = f"{len(frames)}, not {len(reference)}"
    shown = [array for _, array in reference]
    wrong = sum(
        not any(np.array_equal(frame.data, array) for array in shown[max(0, n - 12) : n + 13])
        for n, frame in enumerate(frames)
    )
    in_place = sum(np.array_equal(frame.data, array) for frame, array in zip(frames, shown, strict=False))
    if wrong or (len(frames) == len(shown) != in_place):
        cells["pixels"] = f"{wrong} pictures differ"
    elif cells["frames"] != "same":
        cells["pixels"] = "same, of those that are there"
    steps = np.diff([frame.time_ns for frame in frames])
    period = 1e9 / float(row.rate)
    if len(steps) and (steps.min() <= 0 or abs(steps.mean() - period) > period / 10):
        cells["times"] = f"steps of {steps.min() / 1e6:.1f} to {steps.max() / 1e6:.1f} ms"
    if cells["frames"] != "same":
        cells["metadata"] = "same, of those that are there"
    for frame, (other, _) in zip(frames, reference, strict=False):
        said = frame.metadata
        expected = {
            "rotation": other.rotation,
            "interlaced": other.interlaced_frame,
            "is_keyframe": other.key_frame,
            "width": other.width,
            "height": other.height,
            "color_range": int(other.color_range),
            "colorspace": int(other.colorspace),
            "color_primaries": int(other.color_primaries),
            "color_trc": int(other.color_trc),
        }
        if ratio and len(frames) == len(reference):
            expected["sample_aspect_ratio"] = [ratio.numerator, ratio.denominator]
        unlike = {name: (said[name], value) for name, value in expected.items() if said[name] != value}
        if unlike and cells["frames"] == "same":
            cells["metadata"] = f"differ: {unlike}"
            break
    return cells


def written(table):
    """Return the table in Markdown, with a sentence for every cell that is not "same"."""
    lines = [
        f"Made with PyAV {av.__version__}: frames, pixels and metadata as `av.open(file).decode(video=0)` has them;",
        "times rise by one period.",
        "",
        "| video | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    lines += [f"| {name} | " + " | ".join(cells[each] for each in COLUMNS) + " |" for name, cells in table.items()]
    return "\n".join(lines) + "\n"


TABLE: dict[str, dict[str, str]] = {}


@pytest.fixture(scope="module", autouse=True)
def _table():
    yield
    if WHOLE:
        text = written(TABLE)
        Path(WHOLE).write_text(text, encoding="utf-8")
        print("\n" + text)


@pytest.mark.parametrize("row", ROWS if WHOLE else ROWS[::5], ids=lambda row: row.name)
def test_row(tmp_path, row):
    """Every cell is "same", or has a sentence with the reason."""
    if row.codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV cannot encode {row.codec}")
    cells = compare(row, row.make(tmp_path))
    found = {name: cell for name, cell in cells.items() if cell != "same"}
    TABLE[row.name] = {
        name: f"{cell}: {row.differs.get(name, '?')}" if cell != "same" else cell for name, cell in cells.items()
    }
    assert found.keys() == row.differs.keys(), f"{row.name}: {found}"


@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4"])
def test_real_videos(samples, name):
    """The videos of others are "same" in every cell."""
    path = samples[name]
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
    cells = compare(Row(name, "h264", "mp4", rate=rate), path)
    TABLE[name] = cells
    assert set(cells.values()) == {"same"}
