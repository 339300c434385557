"""Decoding on a device, as far as it can be tested without one: errors and fallbacks."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.codec import hwaccel

import penstock as ps
from penstock.errors import ConfigError, DecodeError
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.hardware import kinds


@pytest.fixture(autouse=True)
def no_device(monkeypatch):
    """A machine on which no device works."""
    create = av.CodecContext.create

    def failing(codec, mode=None, hwaccel=None):
        if hwaccel is not None:
            raise av.error.PermissionError(1, "Operation not permitted")
        return create(codec, mode)

    monkeypatch.setattr(av, "CodecContext", type("Contexts", (), {"create": staticmethod(failing)}))


@pytest.mark.parametrize("hardware", ["auto", *kinds(), "cuda:1", "vaapi:/dev/dri/renderD128"])
def test_without_a_device_frames_are_those_of_software(carphone, packets_of, decode_all, caplog, hardware):
    """Every kind of device falls back; frames are the same; the log has the reason once."""
    packets = packets_of(carphone)
    reference = decode_all(AvDecoder(), packets)
    decoder = AvDecoder(hardware=hardware)
    decoder.open()
    frames = decode_all(decoder, packets)
    frames += decode_all(decoder, packets)  # flushed, it opens another one
    assert all(np.array_equal(a.data, b.data) for a, b in zip(frames, reference * 2, strict=True))
    (line,) = [record.getMessage() for record in caplog.records if "hardware" in record.getMessage()]
    assert repr(hardware) in line
    assert "software" in line
    assert decoder.remarks()[0].text in line


def test_the_report_says_so(carphone, packets_of):
    """The report of a run has the fallback as a remark, in this process or another."""
    for place in ("thread", "process"):
        flow = ps.source(packets_of(carphone)) >> ps.decoder("av", hardware="vdpau", place=place) >> ps.store("null")
        report = ps.Pipeline(flow).run()
        assert report.ok
        assert any("vdpau" in each and "software" in each for each in report.remarks)


def test_a_device_that_must_be(carphone, packets_of, monkeypatch):
    """hardware_missing="error" prevents decoding in software: an error at open, or at the first packet."""
    packet = packets_of(carphone)[0]
    decoder = AvDecoder(hardware="auto", hardware_missing="error")
    with pytest.raises(DecodeError, match="hardware_missing='software'"):
        decoder.decode(packet)
    monkeypatch.setattr(hwaccel, "hwdevices_available", list)
    with pytest.raises(ConfigError, match="built for no device"):
        decoder.open()
    lacking = next(each for each in kinds() if each not in ("cuda", "qsv", "drm", "amf"))
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["cuda"])
    with pytest.raises(ConfigError, match=f"'{lacking}'.*built for cuda"):
        AvDecoder(hardware=lacking, hardware_missing="error").open()


@pytest.mark.parametrize(
    ("hardware", "words"), [("cudda", "'cuda'"), ("vapi:0", "'vaapi'"), (7, "known are"), ("", "x")]
)
def test_unknown_devices_are_named(hardware, words):
    """A device that libav does not know is rejected when the decoder is created, with the nearest name."""
    with pytest.raises(ConfigError, match="hardware=.*" + ("" if words == "x" else words)):
        AvDecoder(hardware=hardware)
