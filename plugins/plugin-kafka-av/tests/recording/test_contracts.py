"""The stores of videos and images keep every promise of the contract."""

from __future__ import annotations

import numpy as np

from penstock.testing import StoreContract
from penstock.testing.samples import ARRAYS
from penstock_kafka_av import ImageStore, VideoStore


class TestVideoStoreOfFrames(StoreContract):
    """Encoded frames."""

    many = 200
    big_bytes = 3 << 20

    def make_store(self, tmp_path):
        return VideoStore(path="{{ channel|slug }}/{{ '%04d' % segment }}.mp4", root=tmp_path, segment_s=1.0)

    def make_unopenable(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        return VideoStore(path="{{ channel }}.mp4", root=tmp_path / "file")

    def make_data(self, number):
        return np.full((32, 48, 3), number % 256, dtype=np.uint8)

    def test_large_record(self, tmp_path):
        """A frame of 4096x2160 is stored."""
        with self.opened(tmp_path) as store:
            store.write([self.record(0, data=np.zeros((2160, 4096, 3), dtype=np.uint8))])
            store.sync()


class TestVideoStoreOfPackets(TestVideoStoreOfFrames):
    """Unchanged packets."""

    big_bytes = 8 << 20

    def make_store(self, tmp_path):
        return VideoStore(path="{{ channel|slug }}.mkv", root=tmp_path, packet_codec="mjpeg")

    def make_unopenable(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        return VideoStore(path="{{ channel }}.mkv", root=tmp_path / "file")

    def make_data(self, number):
        return JPEG + number.to_bytes(8, "big")  # after the end of the picture

    def test_large_record(self, tmp_path):
        """A packet of 8 MB is stored."""
        with self.opened(tmp_path) as store:
            store.write([self.record(0, data=JPEG + bytes(self.big_bytes))])
            store.sync()


class TestImageStore(StoreContract):
    """Pictures as PNG."""

    keeps = ("data",)
    reads_live = True
    several_writers = True
    many = 500
    refuses = tuple(name for name in ARRAYS if name != "a window")

    def make_store(self, tmp_path):
        return ImageStore(path="{{ channel }}/{{ '%06d' % seq }}.png", root=tmp_path)

    def make_unopenable(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        return ImageStore(path="{{ channel }}/{{ '%06d' % seq }}.png", root=tmp_path / "file")

    def make_data(self, number):
        kinds = (np.uint8, (6, 9, 3)), (np.uint8, (5, 8)), (np.uint16, (7, 4))
        dtype, shape = kinds[number % 3]
        return np.random.default_rng(number).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)

    def damage(self, tmp_path, key):
        path = tmp_path / key
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return True

    def test_large_record(self, tmp_path):
        """A picture of 4096x2160 is returned unchanged."""
        with self.opened(tmp_path) as store:
            record = self.record(0, data=np.arange(2160 * 4096, dtype=np.uint16).reshape(2160, 4096))
            store.write([record])
            self.assert_holds(store, [record])


class TestImageStoreThatReplaces(TestImageStore):
    """Pictures as PNG that overwrite existing files."""

    many = 100

    def make_store(self, tmp_path):
        return ImageStore(path="{{ channel }}/{{ '%06d' % seq }}.png", root=tmp_path, when_exists="replace")


def jpeg():
    """One picture of 64x48."""
    from fractions import Fraction

    from penstock_kafka_av.context import new_context
    from penstock_kafka_av.encoder import picture_frame

    context = new_context("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 64, 48, "yuvj420p", Fraction(1, 25)
    frame = picture_frame(0, width=64, height=48).reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))


JPEG = jpeg()
