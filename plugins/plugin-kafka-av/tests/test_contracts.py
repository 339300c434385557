"""The sources, decoders and processors of this plugin keep the contracts' promises."""

from __future__ import annotations

import numpy as np

from penstock.errors import EndOfSource
from penstock.record import Record
from penstock.testing import DecoderContract, ProcessorContract, SourceContract
from penstock_kafka_av.background import BackgroundDifference
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.picture import encode_test_picture
from penstock_kafka_av.source import VideoSource
from penstock_kafka_av.test_picture import TestPictureSource
from penstock_kafka_av.thumbnail import Thumbnail


class TestVideoSource(SourceContract):
    """Packets of a file; the second half begins with a keyframe, so no packets precede it."""

    count = 60
    settings = {}

    def make_source(self, tmp_path):
        path = tmp_path / "clip.mp4"
        if not path.exists():
            path.write_bytes(CLIP)
        return VideoSource(url=str(path), **self.settings)

    def make_unopenable(self, tmp_path):
        (tmp_path / "clip.avi").write_bytes(b"this is not a video" * 100)
        return VideoSource(url=str(tmp_path / "clip.avi"), **self.settings)

    def test_building_does_nothing(self, tmp_path):
        """Creating a source does not open or look for the file."""
        VideoSource(url=str(tmp_path / "none.mp4"))


class TestVideoSourceOfFrames(TestVideoSource):
    """Frames of the same file."""

    settings = {"frames": True}


class TestTestPictureSource(SourceContract):
    """The test picture."""

    count = 20
    repeats = False  # the pictures do, the packets' bytes do not

    def make_source(self, tmp_path):
        return TestPictureSource(frames=20, width=64, height=48)


class TestAvDecoder(DecoderContract):
    """Whole packets with B-frames."""

    def make_decoder(self):
        return AvDecoder()

    def make_packets(self):
        return list(PACKETS)

    def make_bad_packet(self):
        return PACKETS[0].replace(data=PACKETS[0].data[:90])


class TestAvDecoderOfAStream(DecoderContract):
    """The same stream, split every 500 bytes."""

    def make_decoder(self):
        return AvDecoder(packets="stream")

    def make_packets(self):
        return list(CUTS)


class TestThumbnail(ProcessorContract):
    """Thumbnails."""

    def make_processor(self):
        return Thumbnail(height=10)

    def make_records(self):
        return pictures()


class TestBackgroundDifference(ProcessorContract):
    """Differences."""

    def make_processor(self):
        return BackgroundDifference()

    def make_records(self):
        return pictures()


def pictures():
    """Five noisy pictures, the same at each call."""
    chance = np.random.default_rng(3)
    return [Record(data=chance.integers(0, 256, (48, 64, 3), dtype=np.uint8), channel="c", seq=n) for n in range(5)]


def packets():
    """Two GOPs of packets."""
    source = TestPictureSource(frames=60, width=64, height=48)
    source.open()
    found = []
    try:
        while True:
            found += source.read(100, 1.0)
    except EndOfSource:
        return found
    finally:
        source.close()


PACKETS = tuple(packets())
STREAM = b"".join(packet.data for packet in PACKETS)
CUTS = tuple(Record(data=STREAM[at : at + 500], channel="c", seq=at // 500) for at in range(0, len(STREAM), 500))
CLIP = encode_test_picture(frames=60, size=(64, 48), rate=30)
