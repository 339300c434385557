"""The test picture, the contact sheet, thumbnails and the background difference."""

from __future__ import annotations

import time

import av
import numpy as np
import pytest

from penstock.errors import ConfigError, EndOfSource
from penstock.record import Record
from penstock.source import Source
from penstock_kafka_av.background import BackgroundDifference
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.encoder import draw_test_picture
from penstock_kafka_av.picture import contact_sheet, encode_test_picture
from penstock_kafka_av.test_picture import TestPictureSource
from penstock_kafka_av.thumbnail import Thumbnail


def bits(frame):
    """Return the number that a test picture (RGB or BGR) shows in its top row."""
    side = max(1, frame.shape[1] // 20)
    row = [frame[side, (bit + 2) * side + side // 2].mean() > 128 for bit in range(16)]
    return int("".join(str(int(bit)) for bit in row), 2)


@pytest.mark.parametrize("bframes", [0, 3])
def test_the_test_picture_is_a_real_video(tmp_path, drain, decode_all, bframes):
    """The file decodes to the requested number of pictures, each showing its number."""
    from penstock_kafka_av.source import VideoSource

    path = encode_test_picture(tmp_path / "t.mp4", frames=70, size=(320, 240), rate=30, bframes=bframes)
    packets = drain(VideoSource(url=str(path)))
    frames = decode_all(AvDecoder(), packets)
    assert [bits(frame.data) for frame in frames] == list(range(70))
    assert sum(packet.metadata["is_keyframe"] for packet in packets) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_the_test_picture_in_memory():
    """Without a path it returns the bytes of the same file."""
    data = encode_test_picture(frames=10)
    assert data[4:8] == b"ftyp"


def test_a_test_picture_that_cannot_be_written_leaves_nothing(tmp_path):
    """If the path is a directory, the error names it and no temporary file is left."""
    (tmp_path / "t.mp4").mkdir()
    with pytest.raises(OSError, match=r"t\.mp4"):
        encode_test_picture(tmp_path / "t.mp4", frames=2)
    assert [path.name for path in tmp_path.iterdir()] == ["t.mp4"]


@pytest.mark.parametrize("settings", [{"size": (321, 240)}, {"size": (8, 240)}, {"rate": 0}, {"bframes": 17}], ids=repr)
def test_wrong_numbers_for_the_test_picture(settings):
    """Invalid settings are rejected by name and value."""
    with pytest.raises(ConfigError, match=r"test picture: .*must be"):
        encode_test_picture(frames=1, **settings)


def test_the_test_picture_source(drain, decode_all):
    """It yields packets that decode to numbered pictures, with the metadata of a video source."""
    source = TestPictureSource(frames=65, channel="demo")
    assert isinstance(source, Source)
    packets = drain(source)
    assert [packet.seq for packet in packets] == list(range(65))
    frames = decode_all(AvDecoder(), packets)
    assert [bits(frame.data) for frame in frames] == list(range(65))
    assert np.diff([frame.time_ns for frame in frames]).min() > 33_000_000
    assert {frame.channel for frame in frames} == {"demo"}


def test_an_endless_test_picture_keeps_little():
    """An endless source draws on demand: only a few pictures ahead, for B-frames and the look-ahead."""
    source = TestPictureSource(frames=None, width=64, height=48)
    source.open()
    for _ in range(20):
        assert len(source.read(10, 0.0)) == 10
        assert source._drawn - source._given < 30
    source.close()


def test_the_test_picture_in_real_time():
    """In real time it returns the due packets, and no others, within its timeout."""
    source = TestPictureSource(frames=None, width=64, height=48, rate=50, realtime=True)
    opened = time.monotonic()
    source.open()
    count = len(source.read(1000, 0.0))
    assert count <= 2 + 50 * (time.monotonic() - opened)
    assert source.read(1, 10.0)
    source.close()


def test_the_test_picture_ends():
    """After the last packet it raises EndOfSource, repeatedly."""
    source = TestPictureSource(frames=3)
    source.open()
    assert len(source.read(10, 1.0)) == 3
    for _ in range(2):
        with pytest.raises(EndOfSource):
            source.read(10, 1.0)
    source.close()


@pytest.mark.parametrize("frames", [0, -1, "3", True])
def test_wrong_numbers_for_the_test_picture_source(frames):
    """An invalid number of frames is rejected when the source is created."""
    with pytest.raises(ConfigError, match="frames"):
        TestPictureSource(frames=frames)


def read_png(path):
    """Return the pixels of a PNG in RGB order."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_a_contact_sheet_holds_every_picture(tmp_path):
    """The PNG shows the pictures row by row, exactly, in the right colours, on a grid with borders."""
    pictures = [draw_test_picture(number, width=64, height=48) for number in range(5)]
    path = contact_sheet([picture[:, :, ::-1] for picture in pictures], tmp_path / "sheet.png", columns=3)
    sheet = read_png(path)
    assert sheet.shape == (4 + 2 * 52, 4 + 3 * 68, 3)
    for number, picture in enumerate(pictures):
        top, left = 4 + number // 3 * 52, 4 + number % 3 * 68
        assert np.array_equal(sheet[top : top + 48, left : left + 64], picture)
    assert list(tmp_path.iterdir()) == [path]


def test_a_contact_sheet_of_grey_and_of_several_sizes(tmp_path):
    """Gray pictures and pictures of different sizes can be combined; cells are as large as the largest."""
    path = contact_sheet(
        [np.full((10, 20), 200, np.uint8), np.full((30, 8, 3), 90, np.uint8)], tmp_path / "s.png", pixel_format="rgb24"
    )
    sheet = read_png(path)
    assert sheet.shape == (4 + 34, 4 + 2 * 24, 3)
    assert (sheet[4:14, 4:24] == 200).all()
    assert (sheet[4:34, 28:36] == 90).all()


@pytest.mark.parametrize("frames", [[], [np.zeros((2, 2), np.float32)], [np.zeros((2, 2, 4), np.uint8)]], ids=str)
def test_a_contact_sheet_of_no_pictures(tmp_path, frames):
    """No pictures, or an array that is not a picture, is an error, and nothing is written."""
    with pytest.raises(ValueError, match="contact sheet"):
        contact_sheet(frames, tmp_path / "s.png")
    assert list(tmp_path.iterdir()) == []


def test_a_thumbnail_is_the_mean_of_blocks():
    """Each pixel is the mean of its block, rounded to nearest; incomplete blocks are left out."""
    picture = np.random.default_rng(1).integers(0, 256, (49, 70, 3), dtype=np.uint8)
    small = Thumbnail(factor=4)(Record(data=picture, metadata={"a": 1}))
    expected = picture[:48, :68].reshape(12, 4, 17, 4, 3).astype(float).mean(axis=(1, 3))
    assert small.data.dtype == np.uint8
    assert np.array_equal(small.data, np.floor(expected + 0.5).astype(np.uint8))
    assert small.metadata == {"a": 1, "factor": 4}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_a_thumbnail_keeps_the_dtype(dtype):
    """The dtype is kept for any numbers, and a constant picture stays constant."""
    value = 65_535 if dtype == "uint16" else 100
    for factor in (1, 3, 16):
        small = Thumbnail(factor=factor)(Record(data=np.full((64, 48), value, dtype)))
        assert small.data.dtype == dtype
        assert (small.data == value).all()


@pytest.mark.parametrize(("height", "shape"), [(48, (48, 64)), (100, (80, 106)), (500, (240, 320)), (1, (1, 1))])
def test_a_thumbnail_by_height(height, shape):
    """The factor is the smallest integer that keeps to the height; small pictures are unchanged."""
    small = Thumbnail(height=height)(Record(data=np.zeros((240, 320, 3), np.uint8)))
    assert small.data.shape[:2] == shape


def test_a_thumbnail_by_stride():
    """method="stride" takes the first pixel of each block, as a new array."""
    picture = np.arange(100, dtype=np.uint8).reshape(10, 10)
    small = Thumbnail(factor=5, method="stride")(Record(data=picture)).data
    assert small.tolist() == [[0, 5], [50, 55]]
    assert not np.shares_memory(small, picture)


@pytest.mark.parametrize("settings", [{}, {"height": 1, "factor": 1}, {"factor": 0}, {"height": "1"}], ids=repr)
def test_a_thumbnail_needs_one_size(settings):
    """Neither or both of the settings, or a wrong number, is rejected at creation."""
    with pytest.raises((ValueError, TypeError)):
        Thumbnail(**settings)


def test_a_thumbnail_of_no_picture():
    """A shape that is not a picture is rejected with the record's name."""
    with pytest.raises(ValueError, match="record 3 of channel 'x' has shape"):
        Thumbnail(factor=2)(Record(data=np.zeros(5), channel="x", seq=3))


def grey(value, channel="a", **fields):
    """Return a record with a small uniform picture."""
    return Record(data=np.full((4, 6), value, np.uint8), channel=channel, **fields)


def test_the_background_follows_slowly():
    """The difference is the distance from the mean of earlier pictures, and the mean moves by `rate`."""
    difference = BackgroundDifference(rate=0.5, threshold=30)
    values = [difference(grey(value)) for value in (100, 100, 200, 200)]
    assert [int(record.data[0, 0]) for record in values] == [0, 0, 100, 50]
    assert [record.metadata["motion"] for record in values] == [0.0, 0.0, 1.0, 1.0]
    assert values[0].data.dtype == np.uint8


def test_each_channel_has_its_own_background():
    """Channels are independent, and a discontinuity or another shape starts over."""
    difference = BackgroundDifference()
    for channel, value in (("a", 10), ("b", 200), ("a", 10), ("b", 200)):
        assert difference(grey(value, channel)).metadata["motion"] == 0
    assert difference(grey(200, "a")).metadata["motion"] == 1
    assert difference(grey(90, "a", discontinuity=True)).metadata["motion"] == 0
    assert difference(Record(data=np.zeros((2, 2), np.uint8), channel="a")).metadata["motion"] == 0


def test_backgrounds_are_bounded():
    """Beyond max_channels, the least recently seen channel is forgotten."""
    difference = BackgroundDifference(max_channels=2)
    for channel in ("a", "b", "a", "c"):
        difference(grey(0, channel))
    assert difference(grey(255, "a")).metadata["motion"] == 1
    assert difference(grey(255, "b")).metadata["motion"] == 0


def test_a_score_leaves_the_picture():
    """output="score" returns the same array, with the share of pixels that moved."""
    difference = BackgroundDifference(output="score")
    difference(grey(0))
    half = np.zeros((4, 6), np.uint8)
    half[:2] = 255
    record = difference(Record(data=half, channel="a"))
    assert record.data is half
    assert record.metadata["motion"] == 0.5


def test_differences_are_arrays_of_their_own():
    """A returned array does not change with the next picture, and the input is not written to."""
    difference = BackgroundDifference()
    frozen = np.full((4, 6), 9, np.uint8)
    frozen.setflags(write=False)
    first = difference(Record(data=frozen, channel="a")).data
    difference(grey(255))
    assert (first == 0).all()
    assert (frozen == 9).all()


@pytest.mark.parametrize(
    "settings", [{"rate": 0}, {"rate": 1.5}, {"threshold": -1}, {"output": "x"}, {"max_channels": 0}]
)
def test_wrong_settings_of_the_background(settings):
    """A setting out of range is rejected at creation."""
    with pytest.raises(ValueError):
        BackgroundDifference(**settings)


def test_the_disc_moves(drain, decode_all):
    """On the test picture, the disc differs from the background: some of the picture, never most of it."""
    frames = decode_all(AvDecoder(), drain(TestPictureSource(frames=60)))
    difference = BackgroundDifference()
    motion = [difference(frame).metadata["motion"] for frame in frames]
    assert motion[0] == 0
    assert 0.005 < np.mean(motion[10:]) < 0.3
