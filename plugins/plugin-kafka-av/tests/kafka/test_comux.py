"""Comux, Control and MongoConnect with the names of comux, against real brokers: D2 to D6."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import subprocess
import threading
import time
import uuid

import numpy as np
import pytest

from penstock.errors import ConfigError, ObjectNotFoundError, SourceError
from penstock_kafka_av import Comux, Control, KafkaSource, MongoConnect
from penstock_kafka_av.test_picture import TestPictureSource

SNIPPET = """
open("pid", "w").write(str(os.getpid()))
cameras = Comux(cam_ids, consume_schema, produce_schema, "ERROR")
cameras.setup_consumers(consumer_bootstrap_servers, overwrite=True, end=True,
                        max_offset_diff=20, strict_on_fail=True, over_write=False, **{})
cameras.setup_controller(config_topic, control_bootstrap_servers, acts)
cameras.setup_decoders(rate=10, W=1920, H=1080,
                        de_codec="h264", pix_fmt="yuv420p")
cameras.setup_producer(
  producer_bootstrap_servers, strict_on_fail=True, over_write=False, **{})
cameras.start()
while True:
  batch: List[Tuple[str, int | np.ndarray]] = cameras.get_batch(timeout=10)
  for cam_id, index, array in batch:
    model = choose_mode_based_on(cam_id)
    if array is None:
      continue
    results = model.predict(array)
    headers: dict = prepare(results)
    cameras.send(cam_id, index, headers)
"""
"""The snippet of comux's README, as users have it in their programs."""


class Enough(Exception):
    """Ends the endless snippet."""


@pytest.fixture(scope="session")
def packets(drain):
    """Packets of the test picture, with B-frames and a keyframe every ten."""
    return [each.data for each in drain(TestPictureSource(frames=40, width=64, height=48, rate=10, bframes=2))]


@pytest.fixture
def cameras(broker):
    """Two cameras with their own topics: the schemas and the ids."""
    mark = uuid.uuid4().hex[:6]
    ids = ["north", "south"]
    for each in ids:
        broker.topic(f"raw{mark}_{each}", partitions=2)
        broker.topic(f"stream{mark}_{each}", partitions=2)
    return f"raw{mark}_:cam_id", f"stream{mark}_:cam_id", ids


def topic_of(schema, cam_id):
    return schema.replace(":cam_id", cam_id)


def everything(broker, topic, read):
    source = KafkaSource(bootstrap_servers=broker.address, topics=[topic], until_end=True)
    source.open()
    try:
        return read(source)
    finally:
        source.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the snippet leaves its pid file open
def test_the_snippet_of_the_readme(broker, cameras, packets, read):
    """The README's snippet runs with its import line changed; results are sent with the right packets."""
    consume, produce, ids = cameras
    config = broker.topic()
    seen = []
    started, finished = threading.Event(), threading.Event()

    class Model:
        def predict(self, array):
            assert array.shape == (48, 64, 3)
            assert array.dtype == np.uint8
            seen.append(array)
            if len(seen) == 30:
                raise Enough
            return {"mean": float(array.mean()), "boxes": [[1, 2]], "text": "Å"}

    class Watched(Comux):
        def start(self):
            super().start()
            started.set()

    def feed():
        started.wait(60)
        for number in itertools.count():  # cameras go on; a slow machine may jump over some of it
            if len(seen) >= 30 or finished.is_set():
                break
            for each in ids:
                packet = packets[number % len(packets)]
                broker.produce(topic_of(consume, each), [packet], key=f"{each}-{number}", partition=1)

    names = {
        "os": __import__("os"), "np": np, "List": list, "Tuple": tuple, "Comux": Watched, "cam_ids": ids,
        "consume_schema": consume, "produce_schema": produce, "consumer_bootstrap_servers": [broker.address],
        "producer_bootstrap_servers": [broker.address], "control_bootstrap_servers": [broker.address],
        "config_topic": config, "acts": {}, "choose_mode_based_on": lambda cam_id: Model(),
        "prepare": lambda results: results,
    }  # fmt: skip
    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        with pytest.raises(Enough):
            exec(compile(SNIPPET, "README of comux", "exec"), names)
    finally:
        started.set()
        finished.set()
        feeding.join()
        if "cameras" in names:
            names["cameras"].kill()
    sent = [message for each in ids for message in everything(broker, topic_of(produce, each), read)]
    assert len(sent) == 29
    for message in sent:
        number = int(message.metadata["key"].rpartition("-")[2])
        assert message.data == packets[number % len(packets)], "the packet is the one that its key names"
        assert message.metadata["partition"] == 1
        assert json.loads(message.metadata["headers"]["boxes"]) == [[1, 2]]
        assert message.metadata["headers"]["text"] == "Å"


@pytest.fixture
def comux(broker, cameras):
    """A Comux of both cameras, from the beginning of their topics; it is killed at the end."""
    consume, produce, ids = cameras
    made = Comux(ids, consume, produce)
    made.setup_consumers([broker.address], end=False, max_offset_diff=None)
    made.setup_producer(broker.address)
    yield made
    made.kill()


def test_d2_d3_frames_in_order_each_with_its_packet(broker, cameras, comux, packets):
    """`get` returns a camera's frames oldest first, each with the index of its packet; none is left out."""
    consume, _, _ = cameras
    broker.produce(topic_of(consume, "north"), packets, partition=0)
    comux.start()
    indices = [comux.get("north", timeout=20)[1] for _ in range(20)]
    records = [comux.get_batch(frame=True, timeout=20)[0][2] for _ in range(10)]
    assert indices + [record.seq for record in records] == list(range(30))
    offsets = [record.parent.metadata["offset"] for record in records]
    assert offsets != sorted(offsets)  # B-frames
    assert sorted(offsets) == list(range(20, 30))
    assert comux.get("south", timeout=0.05) is None
    with pytest.raises(ObjectNotFoundError, match="west"):
        comux.get("west", timeout=0)


def test_d4_results_of_every_form(broker, cameras, comux, packets, read):
    """Text, mappings, lists and bytes become headers of the original packet, singly or as a batch; keys are kept."""
    consume, produce, _ = cameras
    for number, packet in enumerate(packets):
        broker.produce(topic_of(consume, "north"), [packet], partition=0, key=b"\xff%d" % number)
    comux.start()
    frames = [comux.get("north", timeout=20) for _ in range(10)]  # a GOP with B-frames
    results = {"text": "Å", "map": {"a": [1]}, "list": [1, None], "raw": b"\xfe", "none": None}
    comux.send("north", frames[0][1], results)
    comux.send_batch([("north", index, {"index": index}) for _, index, _ in frames[1:]])
    sent = everything(broker, topic_of(produce, "north"), read)
    assert sorted(message.data for message in sent) == sorted(packets[:10]), "each packet of a frame, once"
    for message in sent:
        number = packets.index(message.data)
        assert message.metadata["key"] == b"\xff%d" % number
    headers = sent[0].metadata["headers"]
    assert (headers["text"], headers["raw"]) == ("Å", b"\xfe")
    assert [json.loads(headers[name]) for name in ("map", "list", "none")] == [{"a": [1]}, [1, None], None]
    assert [message.metadata["headers"]["index"] for message in sent[1:]] == [str(index) for _, index, _ in frames[1:]]


def test_d3_a_batch_has_one_frame_of_each_camera(broker, cameras, comux, packets):
    """`get_batch` returns one frame per camera; a silent camera does not delay the others; None if all are silent."""
    consume, _, ids = cameras
    assert comux.get_batch(timeout=0.05) is None
    comux.start()
    assert comux.get_batch(timeout=0.05) is None
    for each in ids:
        broker.produce(topic_of(consume, each), packets[:20], partition=0)
    assert sorted(cam_id for cam_id, _, _ in comux.get_batch(timeout=20)) == ids
    [*_, (cam_id, index, record)] = comux.get_batch(frame=True, timeout=20)
    assert (record.channel, record.seq) == (cam_id, index)
    broker.produce(topic_of(consume, "north"), packets[20:], partition=0)
    while comux.get("south", timeout=2.0) is not None:
        pass
    began = time.monotonic()
    assert [cam_id for cam_id, _, _ in comux.get_batch(timeout=20)] == ["north"]
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(("settings", "count"), [({"rate": 1}, 30), ({"skip": "nonkey"}, 3)])
def test_d2_rate_is_that_of_the_camera(broker, cameras, packets, settings, count):
    """As in comux, `rate` leaves no frame out, however fast packets come; `skip` does."""
    consume, produce, _ = cameras
    comux = Comux(["north"], consume, produce)
    comux.setup_consumers([broker.address], end=False, max_offset_diff=None)
    comux.setup_decoders(**settings)
    comux.setup_producer(broker.address)
    try:
        broker.produce(topic_of(consume, "north"), packets, partition=0)
        comux.start()
        indices = [comux.get("north", timeout=20)[1] for _ in range(count)]
        assert indices == list(range(0, 30, 30 // count))
    finally:
        comux.kill()


def test_d2_what_cannot_be_decoded_is_none(broker, cameras, comux, packets):
    """Garbage yields an entry without an array; frames after the next keyframe and other cameras are unaffected."""
    consume, _, _ = cameras
    broker.produce(topic_of(consume, "north"), [packets[0], b"garbage", None, *packets[10:]], partition=0)
    broker.produce(topic_of(consume, "south"), packets, partition=0)
    comux.start()
    frames = [comux.get("north", timeout=20) for _ in range(20)]
    assert any(array is None for _, _, array in frames)
    assert sum(array is not None for _, _, array in frames) >= 10
    assert [comux.get("south", timeout=20)[1] for _ in range(30)] == list(range(30))


def test_d5_cameras_come_and_go_by_the_config_topic(broker, cameras, packets, read):
    """Actions of a config topic create, update and delete cameras; unknown ones and failures are answered."""
    consume, produce, _ = cameras
    config, replies = broker.topic(), broker.topic()
    calls = queue.SimpleQueue()

    def fail(comux, value):
        raise RuntimeError("no such lens")

    comux = Comux(["north"], consume, produce)
    comux.setup_consumers(broker.address, end=False, max_offset_diff=None)
    comux.setup_controller(
        config, broker.address, {"zoom": lambda c, value: calls.put((c, value)) or "zoomed", "fail": fail},
        reply_topic=replies,
    )  # fmt: skip
    try:
        comux.start()
        broker.produce(topic_of(consume, "north"), packets, partition=0)
        broker.produce(topic_of(consume, "south"), packets, partition=0)
        for action, value in (
            ("zoom", b'{"by": 2}'), ("create", b"south"), ("update", b"south"), ("explode", b""), ("fail", None),
            ("delete", b'"nobody"'), (None, b"1"),
        ):  # fmt: skip
            broker.produce(config, [value], key=action)
        assert [comux.get("north", timeout=20)[1] for _ in range(30)] == list(range(30))
        assert calls.get(timeout=20) == (comux, {"by": 2})
        ends = time.monotonic() + 20
        answers = []
        while len(answers) < 7:
            answers = [json.loads(each.data) for each in everything(broker, replies, read)]
            assert time.monotonic() < ends, answers
        assert [(each["action"], each["ok"]) for each in answers] == [
            ("zoom", True), ("create", True), ("update", True), ("explode", False), ("fail", False), ("delete", False),
            ("", False),
        ]  # fmt: skip
        assert "explode" in answers[3]["result"]
        assert "no such lens" in answers[4]["error"]
        assert "nobody" in answers[5]["error"]
        assert comux.get("south", timeout=20)[1] == 0
        assert comux.control.offset == 6
        assert comux.control.topic_last_offset == 7
        assert set(comux.consumers) == set(comux.threads) == {"north", "south"}
        broker.produce(config, [b"south"], key="delete")
        while "south" in comux.consumers:
            assert time.monotonic() < ends + 20
            time.sleep(0.01)  # the action is carried out in another thread
    finally:
        comux.kill()


def test_the_second_constructor(broker, cameras, packets):
    """Comux(cam_ids, bootstrap_servers, control_topic, control_bootstrap_servers, acts, …) works as in its README."""
    consume, produce, ids = cameras
    config = broker.topic()
    comux = Comux(ids, [broker.address], config, [broker.address], {}, consume_schema=consume, produce_schema=produce,
                  end=False, max_offset_diff=None)  # fmt: skip
    try:
        comux.connect_all()
        assert isinstance(comux.control, Control)
        assert comux.control.act("none", 1) == "✘ No action 'none' defined!"
        broker.produce(topic_of(consume, "south"), packets, partition=0)
        first = comux.consumers["south"]
        comux.connect("south", False)
        assert comux.consumers["south"] is first
        comux.listen(first)
        assert comux.get("south", timeout=20)[1] == 0
        comux.kill("south")
        assert "south" not in comux.consumers
        assert comux.get_cam_id_from_topic(topic_of(consume, "north")) == "north"
        assert comux.get_topic_from_cam_id("north") == topic_of(consume, "north")
    finally:
        comux.kill()


def test_all_arguments_of_the_second_constructor_by_position():
    """The arguments after acts may be positional too: end, max_offset_diff, strict_on_fail, over_write."""
    comux = Comux(["a"], ["127.0.0.1:9"], None, None, {}, False, 7, False, True)
    assert (comux.end, comux.max_offset_diff, comux.strict_on_fail, comux.over_write) == (False, 7, False, True)
    with pytest.raises(TypeError, match="positional"):
        Comux(["a"], ["127.0.0.1:9"], None, None, {}, False, 7, False, True, "more")


def test_strict_on_fail(caplog):
    """With strict_on_fail=False a missing broker is logged; failed sends are raised or logged."""
    comux = Comux(["a"])
    comux.setup_consumers("127.0.0.1:9", strict_on_fail=False)
    assert "127.0.0.1:9" in caplog.text
    with pytest.raises(ObjectNotFoundError, match="frame 7"):
        comux.send("a", 7, {})


@pytest.fixture(scope="session")
def mongo(services, tmp_path_factory):
    """The address of a server with MongoDB's protocol."""
    cached = services("cached")
    try:
        binary = cached.mongo_binary()
    except cached.NotThere as missing:
        pytest.skip(str(missing))
    directory = tmp_path_factory.mktemp("mongo")
    [port] = cached.free_ports(1)
    process = subprocess.Popen([binary, f"127.0.0.1:{port}", directory], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)  # fmt: skip
    try:
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_d6_camera_ids_from_mongo(broker, mongo, read, monkeypatch):
    """MongoConnect returns the current ids of the collection; a source that reads them follows changes."""
    pymongo = pytest.importorskip("pymongo")
    with contextlib.closing(pymongo.MongoClient(mongo)) as client:
        collection = client["site"]["cameras"]
        ids = ["a", 7, "a", None, ["b"], {"b": 1}, " "]
        collection.insert_many([{"name": "no camera"}, *({"cam_id": each} for each in ids)])
        with MongoConnect(mongo, "site", "cameras", timeout_s=30) as connected:
            assert connected.ret_cam_ids() == ["a", "7"]
            collection.insert_one({"cam_id": "b"})
            assert connected.ret_cam_ids() == ["a", "7", "b"]
        mark = broker.topic()
        for name in ("a", "b", "c"):
            broker.produce(broker.topic(f"{mark}_{name}"), [b"x"])
        monkeypatch.setenv("MONGO_URI", mongo)
        where = {"uri": {"env": "MONGO_URI"}, "database": "site", "collection": "cameras"}
        source = KafkaSource(
            bootstrap_servers=broker.address, schema=f"{mark}_:cam_id", channels_from={"mongo": where}, refresh_s=0.3
        )
        source.open()
        try:
            assert {record.channel for record in read(source, 2)} == {"a", "b"}
            collection.insert_one({"cam_id": "c"})
            assert {record.channel for record in read(source, 1)} == {"c"}
        finally:
            source.close()


def test_a_silent_camera_does_not_slow_down_the_others(broker, cameras, packets):
    """A batch waits once for a camera that is silent; later ones only after it has had a frame again."""
    consume, produce, ids = cameras
    with Comux(ids, consume, produce) as comux:
        comux.setup_consumers([broker.address], max_offset_diff=None)
        comux.setup_decoders()
        comux.start()
        broker.produce(topic_of(consume, "north"), packets[:30], partition=0)
        assert [cam_id for cam_id, _, _ in comux.get_batch(timeout=30)] == ["north"]
        began = time.monotonic()
        for _ in range(20):
            assert [cam_id for cam_id, _, _ in comux.get_batch(timeout=30)] == ["north"]
        assert time.monotonic() - began < 20  # with a wait of a second each it would be longer
        broker.produce(topic_of(consume, "south"), packets[:30], partition=0)
        while "south" not in [cam_id for cam_id, _, _ in comux.get_batch(timeout=30)]:
            pass
        assert {cam_id for cam_id, _, _ in comux.get_batch(5)} >= {"south"}  # a number is the timeout


def test_wrong_arguments_are_refused_at_the_call(broker, cameras, packets):
    """A codec that does not exist, and headers that are not a dict, are refused where they are given."""
    consume, produce, ids = cameras
    with Comux(ids[:1], consume, produce) as comux:
        with pytest.raises(ConfigError, match="codec 'h265000' is not known"):
            comux.setup_decoders(de_codec="h265000")
        comux.setup_consumers([broker.address])
        comux.setup_producer([broker.address])
        comux.start()
        broker.produce(topic_of(consume, "north"), packets[:10], partition=0)
        [(cam_id, index, array)] = comux.get_batch(timeout=30)
        assert array.shape == (48, 64, 3)
        with pytest.raises(ConfigError, match=r"headers='cat 0\.9'"):
            comux.send(cam_id, index, "cat 0.9")


def test_d5_a_control_acts_on_any_object(broker):
    """Actions of one's own take the object that was given, whatever it is, and the value."""
    topic, acted = broker.topic(), queue.Queue()
    control = Control(topic, [broker.address], {"zoom": lambda *given: acted.put(given)}, "the cameras")
    try:
        broker.produce(topic, [b'{"by": 2}', b"["], key="zoom")
        assert [acted.get(timeout=30) for _ in range(2)] == [("the cameras", {"by": 2}), ("the cameras", "[")]
    finally:
        control.kill()


def test_ids_of_cameras_may_be_numbers():
    """A number names the topic that its text names, as in a list from a database."""
    comux = Comux([7, "north"], "raw_:cam_id", "stream_:cam_id")
    assert comux.cam_ids == ["7", "north"]
    assert comux.get_topic_from_cam_id("7") == "raw_7"


def test_a_camera_that_has_no_topic_is_logged_if_not_strict(broker, cameras, caplog):
    """An id that is part of no topic name is an error; without `strict_on_fail`, the others are connected."""
    caplog.set_level("ERROR", logger="penstock.comux")  # a Comux may have set it before
    consume, produce, ids = cameras
    with Comux(["gate 1/left", *ids], consume, produce) as comux:
        with pytest.raises(ConfigError, match="gate 1/left"):
            comux.setup_consumers([broker.address])
        comux.setup_consumers([broker.address], strict_on_fail=False)
        assert list(comux.consumers) == ids
    assert "'gate 1/left'" in caplog.text


def test_mongo_that_is_not_there():
    """A server that does not answer is named, without the password."""
    pytest.importorskip("pymongo")
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9") as refused:
        MongoConnect("mongodb://user:word-of-secret@127.0.0.1:9", timeout_s=0.3).connect()
    assert "word-of-secret" not in str(refused.value)


def test_options_of_kafka_python(broker, packets, services):
    """A camera, a control topic and a producer connect by SASL with the options that comux's client took."""
    topic, module = broker.topic(), services("broker")
    sasl = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"}
    sasl |= {"sasl_plain_username": module.USER, "sasl_plain_password": module.PASSWORD}
    broker.produce(topic, packets)
    broker.topic(f"out_{topic}")
    with Comux([topic], ":cam_id", "out_:cam_id") as cameras:
        cameras.setup_consumers(broker.sasl, end=False, max_offset_diff=1000, **sasl)
        cameras.setup_decoders()
        cameras.setup_producer(broker.sasl, **sasl)
        cameras.setup_controller(broker.topic(), broker.sasl, {}, **sasl)
        cameras.start()
        [(cam_id, index, array)] = cameras.get_batch(timeout=20)
        assert (cam_id, index, array.shape) == (topic, 0, (48, 64, 3))
        cameras.send(cam_id, index, {"seen": True})
