"""VideoSource: packets, frames, times, restarts, and errors of one sentence."""

from __future__ import annotations

import contextlib
import functools
import http.server
import pickle
import socket
import threading
import time

import numpy as np
import pytest

from penstock.errors import EndOfSource, SourceError
from penstock.source import Source, SupportsCommit, SupportsLoss
from penstock_kafka_av.decoder import AvDecoder
from penstock_kafka_av.source import VideoSource


def until_the_end(source, *, waits=None, timeout_s=0.2):
    """Return the records of an open source, and the error with which it ends; `waits` collects the seconds per read."""
    records = []
    try:
        while True:
            called = time.monotonic()
            records += source.read(4, timeout_s)
            if waits is not None:
                waits.append(time.monotonic() - called)
    except (EndOfSource, SourceError) as end:
        return records, end


def test_it_is_a_source():
    """It has the contract's methods and abilities, and declares packets or arrays."""
    source = VideoSource(url="x.mp4")
    assert isinstance(source, Source)
    assert isinstance(source, SupportsCommit)
    assert isinstance(source, SupportsLoss)
    assert (source.gives, VideoSource.gives) == ("bytes", "bytes")
    assert VideoSource(url="x.mp4", frames=True).gives == "array"


def test_settings_are_plain_data(tmp_path):
    """Sources with equal settings are equal, also after pickling; a Path becomes a str; no password is printed."""
    source = VideoSource(url=tmp_path / "x.mp4", loop=2)
    assert source.url == str(tmp_path / "x.mp4")
    assert pickle.loads(pickle.dumps(source)) == source
    secret = VideoSource(url="rtsp://lab:geheim@camera/1")
    assert "geheim" not in repr(secret)
    assert "camera/1" in repr(secret)


@pytest.mark.parametrize("settings", [{"loop": 0}, {"timeout_s": 0}, {"start": -1}, {"url": 7}], ids=repr)
def test_wrong_settings_are_refused_when_built(settings):
    """A setting out of range, or of another type, is rejected at once."""
    with pytest.raises((ValueError, TypeError)):
        VideoSource(**{"url": "x.mp4", **settings})


def test_packets_are_numbered_and_named(carphone, packets_of):
    """Numbers count from 0; the channel is the file's name by default; each packet can be decoded elsewhere."""
    packets = packets_of(carphone)
    assert [packet.seq for packet in packets] == list(range(120))
    assert {packet.channel for packet in packets} == {"carphone_pristine"}
    assert {packet.channel for packet in packets_of(carphone, channel="cam-1")} == {"cam-1"}
    assert all(type(packet.data) is bytes for packet in packets)
    first = packets[0].metadata
    assert {key: first[key] for key in ("codec", "width", "height", "time_base", "is_keyframe", "time_from")} == {
        "codec": "h264",
        "width": 176,
        "height": 144,
        "time_base": [1, 30000],
        "is_keyframe": True,
        "time_from": "open+pts",
    }
    assert packets[0].data.startswith(b"\x00\x00\x00\x01\x67")  # Annex B: a start code and the parameter set


def test_times_are_those_of_the_pictures(carphone, packets_of):
    """time_ns is the time of opening plus the pts, in nanoseconds."""
    before = time.time_ns()
    packets = packets_of(carphone)
    after = time.time_ns()
    start = packets[0].time_ns
    assert before <= start <= after
    for packet in packets:
        assert packet.time_ns - start == packet.metadata["pts"] * 1_000_000_000 // 30_000


def test_it_gives_no_more_than_asked_for(carphone):
    """read(max_records) returns at most that many, in order, and raises EndOfSource only after the last."""
    source = VideoSource(url=str(carphone))
    source.open()
    sizes = []
    with contextlib.suppress(EndOfSource):
        while True:
            sizes.append(len(source.read(7, 0.0)))
    source.close()
    assert sum(sizes) == 120
    assert max(sizes) == 7
    with pytest.raises(SourceError, match="open"):
        source.read(1, 0.0)


def test_frames(sample, direct, drain):
    """frames=True returns the same arrays as PyAV, each with its packet as parent."""
    frames = drain(VideoSource(url=str(sample), frames=True))
    reference = list(direct(sample))
    assert [frame.seq for frame in frames] == list(range(len(reference)))
    assert all(np.array_equal(frame.data, array) for frame, (_, array) in zip(frames, reference, strict=True))
    assert [frame.parent.metadata["pts"] for frame in frames] == [pts for pts, _ in reference]


def test_a_loop_goes_on(carphone, packets_of):
    """Played twice, seq, pts and time continue, and the data repeat."""
    packets = packets_of(carphone, loop=2)
    assert [packet.seq for packet in packets] == list(range(240))
    assert [packet.data for packet in packets[:120]] == [packet.data for packet in packets[120:]]
    assert not any(packet.discontinuity for packet in packets)
    assert sorted(packet.metadata["pts"] for packet in packets) == [1001 * number for number in range(240)]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.h264", "clip.avi"])
def test_containers(make_video, direct, packets_of, decode_all, name):
    """MP4, Matroska, MPEG-TS, raw H.264 and AVI yield packets with the same frames."""
    path = make_video(name)
    frames = decode_all(AvDecoder(), packets_of(path))
    reference = list(direct(path))
    assert len(frames) == 40
    assert all(np.array_equal(frame.data, array) for frame, (_, array) in zip(frames, reference, strict=True))
    assert len({frame.time_ns for frame in frames}) == 40


def test_realtime_keeps_to_the_clock(make_video):
    """In real time ten frames at 25 per second take at least 360 ms, and read() keeps to its timeout."""
    source = VideoSource(url=str(make_video("clip.mp4")), realtime=True)
    source.open()
    start = time.monotonic()
    records = [*source.read(10, 0.0)]
    assert len(records) == 1  # the first is due at once, the next not yet
    while len(records) < 10:
        called = time.monotonic()
        records += source.read(10, 0.01)
        assert time.monotonic() - called < 0.03 + 0.2  # a busy machine may be late; a packet's time is 0.04
    source.close()
    assert 0.35 <= time.monotonic() - start < 2


@pytest.mark.parametrize("loop", [1, 3])
@pytest.mark.parametrize("start", [0, 1, 9, 10, 25, 39])
def test_a_restart_begins_at_the_keyframe_before(make_video, packets_of, direct, decode_all, start, loop):
    """From a position, all packets are returned again, preceded by those from the keyframe; the first is marked."""
    path = make_video("clip.mp4")
    whole = packets_of(path, loop=loop)
    packets = packets_of(path, loop=loop, start=start)
    keyframe = max(p.seq for p in whole if p.metadata["is_keyframe"] and p.seq <= start)
    assert [packet.seq for packet in packets] == list(range(keyframe, 40 * loop))
    assert [packet.data for packet in packets] == [packet.data for packet in whole[keyframe:]]
    assert [packet.discontinuity for packet in packets[:2]] == [start > 0, False][: len(packets)]
    assert [packet.metadata.get("discard", False) for packet in packets] == [packet.seq < start for packet in packets]
    frames = decode_all(AvDecoder(), packets)
    assert {frame.parent.seq for frame in frames} == set(range(start, 40 * loop))


def test_a_restart_at_the_end_gives_nothing(carphone, packets_of):
    """A position after the last packet means that nothing is left to read."""
    assert packets_of(carphone, start=120) == []
    assert packets_of(carphone, start=500) == []


def test_positions_count_packets(carphone):
    """position() is the number of packets read, over all reads; commit accepts it."""
    source = VideoSource(url=str(carphone), start=0)
    source.open()
    assert source.position() == 0
    source.read(10, 1.0)
    assert source.position() == 10
    source.commit(10)
    source.read(5, 1.0)
    assert source.position() == 15
    source.close()


def test_positions_of_frames_lose_none(make_video, drain):
    """With frames, a restart at any position returns every frame that had not been read, with its packet."""
    path = str(make_video("clip.mp4"))
    everything = {frame.parent.seq for frame in drain(VideoSource(url=path, frames=True))}
    for reads in range(0, 40, 3):
        source = VideoSource(url=path, frames=True)
        source.open()
        first = [record for _ in range(reads) for record in source.read(1, 1.0)]
        position = source.position()
        source.close()
        rest = drain(VideoSource(url=path, frames=True, start=position))
        assert {frame.parent.seq for frame in first} | {frame.parent.seq for frame in rest} == everything


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"no video " * 1000, "is not a video"),
        ("moov", "without its index"),
        ("directory", "is a directory"),
        ("audio", "holds no video, only audio"),
    ],
    ids=str,
)
def test_what_is_no_video_is_refused(tmp_path, carphone, content, says):
    """open() names the file, the problem and a remedy; nothing stays open."""
    path = tmp_path / "input.mp4"
    if content == "moov":
        path.write_bytes(carphone.read_bytes()[:-3000])
    elif content == "directory":
        path.mkdir()
    elif content == "audio":
        make_audio(path)
    elif content is not None:
        path.write_bytes(content)
    source = VideoSource(url=str(path))
    with pytest.raises(SourceError, match=rf"'{path}' .*{says}|{says}.*|.*'{path}'.*{says}") as caught:
        source.open()
    assert str(path) in str(caught.value)
    assert ";" in str(caught.value)  # the remedy
    source.close()


def make_audio(path):
    """One second of silence in an MP4 file."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.flv"])
@pytest.mark.parametrize("frames", [False, True])
def test_a_file_cut_in_its_data(tmp_path, make_video, direct, name, frames):
    """Every complete packet of a truncated file is returned, followed by an error; never a silent end."""
    muxing = {"movflags": "faststart"} if name.endswith("mp4") else {}
    whole = make_video(f"to-{name}", muxing=muxing).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: len(whole) * 3 // 4])
    source = VideoSource(url=str(path), frames=frames)
    source.open()
    records, end = until_the_end(source)
    assert isinstance(end, SourceError)
    assert "is truncated" in str(end)
    assert "; copy or record it again" in str(end)
    source.close()
    assert 15 < len(records) < 40
    if frames:
        pictures = dict(direct(make_video(f"to-{name}", muxing=muxing)))
        assert all(np.array_equal(frame.data, pictures[frame.parent.metadata["pts"]]) for frame in records)


def test_after_an_error_it_goes_on_where_it_was(tmp_path, make_video):
    """Opened again after SourceError, a recording returns no packet twice, and reports the truncation again."""
    whole = make_video("to-cut.mkv").read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    source = VideoSource(url=str(path))
    source.open()
    _, end = until_the_end(source)
    assert isinstance(end, SourceError)
    given = source.position()
    source.close()
    path.write_bytes(whole)  # the rest was copied in the meantime
    source.open()
    records, end = until_the_end(source)
    assert isinstance(end, EndOfSource)
    source.close()
    assert [record.seq for record in records] == list(range(given, 40))
    assert not records[0].discontinuity


def test_pictures_that_cannot_be_decoded_are_counted_as_lost(tmp_path, make_video):
    """With frames=True, damage inside a file is skipped and counted in lost_upstream()."""
    data = bytearray(make_video("clip.mp4", frames=40).read_bytes())
    at = data.index(b"mdat") + 4
    data[at + 6000 : at + 6400] = bytes(400)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    source = VideoSource(url=str(path), frames=True)
    source.open()
    frames, _ = until_the_end(source)
    lost = source.lost_upstream()
    source.close()
    assert len(frames) + lost["damaged"] == 40


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server without log output."""

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving(directory):
    """Serve a directory over HTTP on loopback; yield the address."""
    handler = functools.partial(Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_http(make_video, packets_of):
    """A file over HTTP yields the same packets as the file."""
    path = make_video("web.mp4", muxing={"movflags": "faststart"})
    with serving(path.parent) as address:
        packets = packets_of(f"{address}/{path.name}")
    assert [packet.data for packet in packets] == [packet.data for packet in packets_of(path)]
    assert packets[0].channel == "web"


def test_http_that_has_no_such_file(tmp_path):
    """An address that answers 404 raises SourceError with the address, without the password."""
    with serving(tmp_path) as address:
        source = VideoSource(url=address.replace("//", "//me:geheim@") + "/none.mp4")
        with pytest.raises(SourceError, match=r"none\.mp4.*; check") as caught:
            source.open()
    assert "geheim" not in str(caught.value)


class Camera:
    """A sender of a live stream over TCP: it sends its data and is then silent until it is stopped."""

    def __init__(self, data: bytes) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.gone = threading.Event()
        self.thread = threading.Thread(target=self.send, args=(data,))
        self.thread.start()

    def send(self, data: bytes) -> None:
        connection, _ = self.listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(data)
            self.gone.wait(20)

    def close(self) -> None:
        self.gone.set()
        self.thread.join()
        self.listener.close()


@pytest.fixture
def camera(make_video):
    """A camera that sends 400 frames as MPEG-TS and then falls silent."""
    camera = Camera(make_video("live.ts", frames=400).read_bytes())
    yield camera
    camera.close()


def test_a_silent_camera_does_not_hold_read(camera):
    """Without packets, read() returns after its timeout; after timeout_s the silence is an error."""
    source = VideoSource(url=camera.url, options={"analyzeduration": 100_000, "probesize": 50_000}, timeout_s=1.0)
    source.open()
    waits = []
    records, end = until_the_end(source, waits=waits, timeout_s=0.05)
    source.close()
    assert "cannot be read beyond packet" in str(end)
    assert len([wait for wait in waits if wait > 0.04]) >= 3
    assert max(waits) < 0.5
    assert [record.seq for record in records] == list(range(len(records)))
    assert len(records) > 380


def test_a_camera_that_is_not_read_waits(camera):
    """Unread packets do not pile up: at most 64 wait, the thread blocks, and close() ends it."""
    source = VideoSource(url=camera.url, options={"analyzeduration": 100_000, "probesize": 50_000}, timeout_s=1.0)
    source.open()
    assert source.read(1, 5.0)
    (thread,) = [thread for thread in threading.enumerate() if thread.name.startswith("video tcp")]
    source.close()
    assert not thread.is_alive()


def test_a_camera_that_comes_back_is_a_discontinuity(camera, make_video):
    """Opened again after an error, the first packet is a discontinuity, and numbers continue."""
    source = VideoSource(url=camera.url, options={"analyzeduration": 100_000, "probesize": 50_000}, timeout_s=0.5)
    source.open()
    records, end = until_the_end(source)
    assert isinstance(end, SourceError)
    count = len(records)
    source.close()
    second = Camera(make_video("live.ts", frames=400).read_bytes())
    try:
        object.__setattr__(source._playback, "url", second.url)  # the test's second camera has another port
        source.open()
        record = source.read(1, 5.0)[0]
        assert record.discontinuity
        assert record.seq == count
        source.close()
    finally:
        second.close()


def test_nobody_listens():
    """An address without a listener raises SourceError with the address and a remedy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceError, match=rf"rtsp://127.0.0.1:{port}/cam.*check"):
        VideoSource(url=f"rtsp://127.0.0.1:{port}/cam", timeout_s=2).open()
