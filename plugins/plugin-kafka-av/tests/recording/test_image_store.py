"""Images from frames: their content, their names, and errors."""

from __future__ import annotations

import zlib

import av
import numpy as np
import pytest

import penstock as ps
from penstock.errors import CannotGetObjectError, RecordExistsError, StoreError
from penstock.record import Record
from penstock_kafka_av import ImageStore
from penstock_kafka_av.encoder import draw_test_picture

RGB = draw_test_picture(3, width=63, height=47)


def opened(root, path="{{ seq }}.png", **settings):
    """Return an open store."""
    store = ImageStore(path=path, root=root, **settings)
    store.open()
    return store


def seen(path, pixel_format):
    """Return the picture of an image, decoded by PyAV."""
    with av.open(str(path)) as container:
        (frame,) = container.decode(video=0)
        return frame.to_ndarray(format=pixel_format)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg"])
def test_colours_are_right(tmp_path, suffix):
    """BGR, RGB and gray frames of odd sizes are read alike by others; a PNG has every pixel."""
    store = opened(tmp_path, "{{ seq }}" + suffix, quality=100)
    gray = RGB[..., 0].copy()
    store.write(
        [
            Record(RGB[..., ::-1], seq=0),
            Record(RGB, seq=1, metadata={"pixel_format": "rgb24"}),
            Record(gray, seq=2),
            Record(gray, seq=3, metadata={"pixel_format": "gray"}),
        ]
    )
    store.close()
    for number, expected in enumerate([RGB, RGB, gray, gray]):
        found = seen(tmp_path / f"{number}{suffix}", "rgb24" if number < 2 else "gray")
        assert found.shape == expected.shape
        difference = np.abs(found.astype(int) - expected)
        assert difference.max() == 0 if suffix == ".png" else difference.mean() < 3


def test_sixteen_bits(tmp_path):
    """uint16 frames keep their values in PNG, in either byte order, and JPEG rejects them with a remedy."""
    values = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    store = opened(tmp_path)
    store.write([Record(values, seq=0), Record(values.astype(">u2"), seq=1)])
    assert np.array_equal(store.get("0.png").data, values)
    assert np.array_equal(store.get("1.png").data, values)
    store.close()
    assert np.array_equal(seen(tmp_path / "0.png", "gray16le"), values)
    jpegs = opened(tmp_path, "{{ seq }}.jpg")
    with pytest.raises(StoreError, match=r"'gray16le'.*which JPEG cannot keep; use a path that ends in .png"):
        jpegs.write([Record(values)])
    jpegs.close()


def test_quality_and_compression(tmp_path):
    """A higher quality makes JPEGs larger and closer; a higher compression makes PNGs smaller."""
    chance = np.random.default_rng(2)
    picture = np.clip(RGB.astype(int) + chance.integers(-20, 20, RGB.shape), 0, 255).astype(np.uint8)
    sizes, errors = [], []
    for quality in (1, 50, 90, 100):
        store = opened(tmp_path, f"q{quality}.jpg", quality=quality)
        store.write([Record(picture)])
        errors.append(np.abs(store.get(f"q{quality}.jpg").data.astype(int) - picture).mean())
        store.close()
        sizes.append((tmp_path / f"q{quality}.jpg").stat().st_size)
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    for compression in (0, 9):
        store = opened(tmp_path, f"c{compression}.png", compression=compression)
        store.write([Record(RGB)])
        store.close()
    assert (tmp_path / "c9.png").stat().st_size < (tmp_path / "c0.png").stat().st_size


@pytest.mark.parametrize(
    ("when", "names"),
    [("error", ["a.png"]), ("skip", ["a.png"]), ("replace", ["a.png"]), ("number", ["a-1.png", "a-2.png", "a.png"])],
)
def test_when_exists(tmp_path, when, names):
    """Each policy handles an existing name as documented."""
    first, second = np.full((4, 6), 1, np.uint8), np.full((4, 6), 2, np.uint8)
    store = opened(tmp_path, "a.png", when_exists=when)
    store.write([Record(first)])
    for _ in range(2):
        if when == "error":
            with pytest.raises(RecordExistsError, match=r"a\.png exists already; put"):
                store.write([Record(second)])
        else:
            store.write([Record(second)])
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert seen(tmp_path / "a.png", "gray")[0, 0] == (2 if when == "replace" else 1)


BAD = {
    "bytes": (b"abc", "neither bytes nor an array|holds bytes"),
    "floats": (np.zeros((4, 4)), "which is not an encodable picture"),
    "two channels": (np.zeros((4, 4, 2), np.uint8), "which is not an encodable picture"),
    "four channels": (np.zeros((4, 4, 4), np.uint8), "which PNG cannot keep"),
    "no pixels": (np.zeros((4, 0), np.uint8), "has no pixels"),
    "text": ("text", "holds str"),
    "very wide": (np.broadcast_to(np.uint8(0), (1, 1 << 24)), "holds an array|cannot|refuses|Invalid"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_records_cost_only_themselves(tmp_path, name):
    """Data that are not a picture fail with record and reason; their neighbours are written."""
    data, message = BAD[name]
    store = opened(tmp_path)
    good = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(StoreError, match=message) as caught:
        store.write([Record(good, seq=0), Record(data, seq=1), Record(good, seq=2)])
    assert [record.seq for record, _ in caught.value.failed] == [1]
    assert not caught.value.retryable
    assert list(store.keys()) == ["0.png", "2.png"]
    store.close()


def test_a_flipped_bit_is_noticed(tmp_path):
    """A PNG with a changed byte is never read as another picture."""
    store = opened(tmp_path)
    store.write([Record(RGB)])
    content = (tmp_path / "0.png").read_bytes()
    for at in range(16, len(content), max(1, len(content) // 40)):
        (tmp_path / "0.png").write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        try:
            found = store.get("0.png")
        except CannotGetObjectError:
            continue
        assert np.array_equal(found.data, RGB[..., ::-1])
    store.close()


def test_an_image_that_claims_to_be_huge(tmp_path):
    """A PNG whose header claims 65,000 x 65,000 pixels is rejected without allocation."""
    store = opened(tmp_path)
    store.write([Record(RGB)])
    content = bytearray((tmp_path / "0.png").read_bytes())
    content[16:24] = (65_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    (tmp_path / "0.png").write_bytes(content)
    with pytest.raises(CannotGetObjectError, match=r"0\.png cannot be read"):
        store.get("0.png")
    store.close()


def test_in_a_pipeline(tmp_path, carphone):
    """Every tenth frame of a video becomes an image."""
    frames = ps.source("video", url=carphone, channel="car") >> ps.decoder("av")
    tenth = frames >> ps.processor(lambda record: record if record.seq % 10 == 0 else None)
    images = ps.store("image", path=f"{tmp_path}/{{{{ channel }}}}/{{{{ '%04d' % seq }}}}.jpg", quality=80)
    ps.Pipeline(tenth >> images).run(check=True)
    assert [path.name for path in sorted(tmp_path.rglob("*.jpg"))] == [f"{n:04d}.jpg" for n in range(0, 120, 10)]
