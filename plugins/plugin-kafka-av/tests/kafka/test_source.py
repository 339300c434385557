"""The kafka source against a real broker: D1 of the comux tests, and its known failures."""

from __future__ import annotations

import threading
import time
import traceback

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

import penstock as ps
from penstock.errors import CannotConnectToStoreError, ConfigError, EndOfSource, SourceError
from penstock_kafka_av import KafkaLinkSource, KafkaLinkStore, KafkaSource, KafkaStore
from penstock_kafka_av.kafka.start import Starts, start_of


def opened(broker, **settings):
    source = KafkaSource(bootstrap_servers=broker.address, **settings)
    source.open()
    return source


def numbers(count, start=0):
    return [b"%d" % number for number in range(start, start + count)]


@pytest.fixture
def source_of(broker):
    """Open sources that are closed at the end."""
    made = []

    def make(**settings):
        made.append(opened(broker, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_d1_one_topic_a_camera_by_schema(broker, source_of, read):
    """A schema of penstock or comux maps topics to channels, with or without a list of channels."""
    one, other = broker.topic("d1raw_north"), broker.topic("d1raw_south")
    broker.produce(one, numbers(3), key=b"k", headers={"a": b"1", "b": b"\xff"})
    broker.produce(other, numbers(2))
    for settings in (
        {"schema": "d1raw_{{ channel }}"},
        {"schema": "d1raw_:cam_id"},
        {"schema": "d1raw_:cam_id", "channels": ["north", "south"]},
    ):
        records = read(source_of(**settings, until_end=True))
        assert sorted((record.channel, record.seq, record.data) for record in records) == [
            ("north", 0, b"0"), ("north", 1, b"1"), ("north", 2, b"2"), ("south", 0, b"0"), ("south", 1, b"1"),
        ]  # fmt: skip
    first = next(record for record in records if record.channel == "north")
    said = dict(first.metadata)
    assert abs(said.pop("timestamp_ms") / 1000 - time.time()) < 600
    assert said == {
        "topic": one, "partition": 0, "offset": 0, "key": "k", "headers": {"a": "1", "b": b"\xff"},
        "time_from": "sender",
    }  # fmt: skip
    assert first.time_ns == first.metadata["timestamp_ms"] * 1_000_000


def test_d1_all_partitions(broker, source_of, read):
    """All partitions are read, each in order, and no two messages of a topic have the same number."""
    topic = broker.topic(partitions=3)
    for partition in range(3):
        broker.produce(topic, numbers(5), partition=partition)
    records = read(source_of(topics=[topic], until_end=True))
    assert len({record.seq for record in records}) == 15
    for partition in range(3):
        own = [record for record in records if record.metadata["partition"] == partition]
        assert [record.metadata["offset"] for record in own] == [0, 1, 2, 3, 4]
        assert sorted(record.seq for record in own) == [record.seq for record in own]


def test_ends_of_partitions_do_not_shorten_the_wait(broker, source_of):
    """With until_end, the ends of empty partitions do not make a read return nothing before its timeout."""
    topic = broker.topic(partitions=12)
    broker.produce(topic, numbers(3), partition=11)
    source = source_of(topics=[topic], until_end=True)
    found = []
    while len(found) < 3:
        records = source.read(10, 60.0)
        assert records
        found += records
    with pytest.raises(EndOfSource):
        source.read(10, 60.0)


def test_d1_starts(broker, source_of, read):
    """It starts at the end, the beginning, a time, or the committed offset, as configured."""
    topic = broker.topic()
    broker.produce(topic, numbers(3))
    time.sleep(0.01)  # a later millisecond
    middle = time.time()
    broker.produce(topic, numbers(3, 3))
    live = source_of(topics=topic, start="end")
    broker.produce(topic, numbers(1, 6))
    assert [record.data for record in read(live, 1)] == [b"6"]
    assert len(read(source_of(topics=topic, start="beginning", until_end=True))) == 7
    assert read(source_of(topics=topic, start=middle, until_end=True))[0].data == b"3"
    late = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    assert read(source_of(topics=topic, start=late, until_end=True)) == []
    grouped = source_of(topics=topic, group=f"g-{topic}", until_end=True)
    assert len(read(grouped)) == 7
    grouped.commit({f"{topic}/0": 5})
    grouped.close()
    assert [record.data for record in read(source_of(topics=topic, group=f"g-{topic}", until_end=True))] == [b"5", b"6"]
    alone = source_of(topics=topic, group=f"g-{topic}x", start="beginning", until_end=True)
    assert len(read(alone)) == 7


def test_a_start_takes_in_its_millisecond():
    """A time between two messages starts at the later one, and a message's own time at this message."""
    assert start_of(1795875380.1236) == 1795875380123
    assert all(start_of((1795875380000 + each) / 1000) == 1795875380000 + each for each in range(1000))


def test_d1_commits_only_at_checkpoints(broker, read):
    """A run commits stored records, and none that failed to be stored."""
    topic = broker.topic()
    broker.produce(topic, numbers(100))
    kafka = {"bootstrap_servers": broker.address, "topics": [topic], "group": f"g-{topic}", "until_end": True}

    def refuse(record):
        if record.seq >= 60:
            raise ValueError("no more")

    flow = ps.source("kafka", **kafka) >> ps.processor(refuse, on_error="stop") >> ps.store("null")
    report = ps.Pipeline(flow).run()
    assert not report.ok
    assert len(ps.Pipeline(ps.source("kafka", **kafka)).collect()) == 100
    assert ps.Pipeline(ps.source("kafka", **kafka) >> ps.store("null")).run().ok
    assert ps.Pipeline(ps.source("kafka", **kafka)).collect() == []


@pytest.mark.parametrize("on_lag", ["end", "keyframe"])
def test_d1_too_far_behind(broker, source_of, read, on_lag):
    """With more lag than `max_lag`, it skips to the end or the last keyframe; each message is returned or counted."""
    topic = broker.topic()
    key, other = b"\0\0\1\x65key", b"\0\0\1\x41not"
    broker.produce(topic, [key if number in (0, 40, 80) else other for number in range(100)])
    source = source_of(topics=topic, start="beginning", max_lag=30, on_lag=on_lag)
    records = read(source, 20 if on_lag == "keyframe" else 0)
    while not source.dropped_upstream():
        records += source.read(500, 0.2)
    broker.produce(topic, [other] * 3)
    records += read(source, 3)
    assert len(records) + sum(source.dropped_upstream().values()) == 103
    assert records[0].seq == (80 if on_lag == "keyframe" else 100)
    assert [record.discontinuity for record in records[:2]] == [True, False]
    assert "behind" in source.remarks()[0].text
    assert source.lag() == 0


def test_topics_and_partitions_that_appear(broker, source_of, read):
    """A new topic or partition is read from its first message, by the same source, in a group or not."""
    for group in (None, "appear"):
        mark = broker.topic()
        schema = f"{mark}_{{{{ channel }}}}"
        source = source_of(schema=schema, group=group and f"{group}-{mark}", start="end", refresh_s=0.2)
        assert source.read(1, 0.0) == []
        broker.topic(f"{mark}_new")
        broker.produce(f"{mark}_new", numbers(3))
        assert [record.data for record in read(source, 3)] == numbers(3)
        broker.add_partitions(f"{mark}_new", 2)
        broker.produce(f"{mark}_new", numbers(2), partition=1)
        assert [(record.metadata["partition"], record.data) for record in read(source, 2)] == [(1, b"0"), (1, b"1")]
        source.close()


def test_d6_channels_from_a_file_change(broker, source_of, read, tmp_path):
    """A list of cameras in a file is reread: an added camera joins, a removed one leaves."""
    mark = broker.topic()
    for name in ("a", "b"):
        broker.produce(broker.topic(f"{mark}_{name}"), numbers(2))
    file = tmp_path / "cameras.txt"
    file.write_text("a\n")
    source = source_of(schema=f"{mark}_:cam_id", channels_from={"file": str(file)}, refresh_s=0.2)
    assert {record.channel for record in read(source, 2)} == {"a"}
    file.write_text('["b"]')
    assert {record.channel for record in read(source, 2)} == {"b"}
    broker.produce(f"{mark}_a", numbers(1))
    broker.produce(f"{mark}_b", numbers(1))
    assert {record.channel for record in read(source, 1)} == {"b"}


def test_d6_a_wrong_name_in_a_list_of_cameras_costs_no_other(broker, source_of, read, tmp_path, caplog):
    """A name that is part of no topic name is left out with a warning, at the start and in a running source."""
    caplog.set_level("WARNING", logger="penstock.kafka")  # a Comux may have set it before
    mark = broker.topic()
    for name in ("a", "b"):
        broker.produce(broker.topic(f"{mark}_{name}"), numbers(2))
    file = tmp_path / "cameras.txt"
    file.write_text("gate 1/left\na\n")
    source = source_of(schema=f"{mark}_:cam_id", channels_from=str(file), refresh_s=0.2)
    assert {record.channel for record in read(source, 2)} == {"a"}
    file.write_text('["a", "", "gate 2/left", "gate 1/left", "b"]')
    assert {record.channel for record in read(source, 2)} == {"b"}
    warned = [each.getMessage() for each in caplog.records if "it is left out" in each.getMessage()]
    assert len(warned) == 3
    assert "channel 'gate 1/left'" in warned[0]


def test_d6_channels_from_a_topic(broker, source_of, read):
    """The keys of a topic are the cameras; a tombstone removes one."""
    mark, cameras = broker.topic(), broker.topic(cleanup_policy="compact")
    for name in ("a", "b"):
        broker.produce(broker.topic(f"{mark}_{name}"), numbers(2))
        broker.produce(cameras, [b"{}"], key=name)
    broker.produce(cameras, [None], key="b")
    source = source_of(schema=f"{mark}_:cam_id", channels_from={"topic": cameras}, until_end=True)
    assert {record.channel for record in read(source)} == {"a"}


@pytest.mark.parametrize("template", ["{{ key }}", "{{ headers.camera }}", "cam-{{ key }}-{{ partition }}"])
def test_several_cameras_in_one_topic(broker, source_of, read, template):
    """A template separates cameras of one topic by key, header or partition; each keeps its order.

    A message that lacks what the template needs is refused by name, and its neighbours come.
    """
    topic = broker.topic(partitions=2)
    for number in range(6):
        for camera, partition in (("north", 0), ("south", 0), ("west", 1)):
            broker.produce(topic, numbers(1, number), key=camera, headers={"camera": camera}, partition=partition)
    broker.produce(topic, [b"nobody"], partition=1)
    source = source_of(topics=topic, channel=template, until_end=True)
    records = read(source)
    found = {}
    for record in records:
        found.setdefault(record.channel, []).append(record.data)
    plain = {"north": numbers(6), "south": numbers(6), "west": numbers(6)}
    by_partition = {"cam-north-0": numbers(6), "cam-south-0": numbers(6), "cam-west-1": numbers(6)}
    assert found == (by_partition if "partition" in template else plain)
    assert len({(record.channel, record.seq) for record in records}) == 18
    [(refused, error)] = source.take_refused()
    assert refused.data == b"nobody"
    assert "headers" in str(error) or "key" in str(error)


def test_one_camera_in_two_topics(broker, source_of, read):
    """Messages of one key in several topics have different numbers, the same at each reading."""
    mark = broker.topic()
    for name in ("a", "b"):
        broker.produce(broker.topic(f"{mark}{name}"), numbers(3), key="camera")
    found = [read(source_of(pattern=f"{mark}[ab]", channel="{{ key }}", until_end=True)) for _ in range(2)]
    names = [{(each.metadata["topic"], each.data): (each.channel, each.seq) for each in records} for records in found]
    assert names[0] == names[1]
    assert len(set(names[0].values())) == 6


def test_a_jump_breaks_every_camera_of_its_partition(broker, source_of, read):
    """After skipped messages of a partition, each of its cameras has a discontinuity."""
    topic = broker.topic()
    for number in range(4):
        broker.produce(topic, numbers(1, number), key=f"{number % 2}")
    source = source_of(topics=topic, channel="{{ key }}")
    assert [each.discontinuity for each in read(source, 4)] == [False] * 4
    source.seek({f"{topic}/0": 0})
    assert [each.discontinuity for each in read(source, 4)] == [True, True, False, False]


def test_lag_in_messages_and_seconds(broker):
    """The statistics of a run have the lag of a Kafka source in messages and in seconds."""
    topic = broker.topic()
    broker.produce(topic, numbers(50))
    working, goes_on = threading.Event(), threading.Event()

    def wait(record):
        working.set()
        goes_on.wait(60)
        return record

    source = ps.source("kafka", name="in", bootstrap_servers=broker.address, topics=[topic], refresh_s=0.2)
    with ps.Pipeline(source >> ps.processor(wait) >> ps.store("null")).start() as run:
        try:
            assert working.wait(30)
            broker.produce(topic, numbers(20, 50))
            ends = time.monotonic() + 30
            while (run.stats().node("in").lag or 0) < 20:
                assert time.monotonic() < ends
                run.wait(0.05)
            before = run.stats().node("in").lag_s
            run.wait(0.3)
            assert run.stats().node("in").lag_s > before > 0
        finally:
            goes_on.set()
        while run.stats().node("in").lag or run.stats().node("in").received < 70:
            assert time.monotonic() < ends
            run.wait(0.05)
        assert run.stats().node("in").lag_s == 0


def test_lag_of_a_source_in_a_process(broker):
    """A source with place="process" reports its lag in messages and seconds; both are 0 at the end."""
    topic = broker.topic()
    hour_ago_ms = int(time.time() * 1000) - 3_600_000
    producer = Producer({"bootstrap.servers": broker.address})
    for number in range(3000):
        producer.produce(topic, bytes(1000), timestamp=hour_ago_ms + number)
        producer.poll(0)
    producer.flush(30)
    seen = []

    def note(record):
        if record.seq % 20 == 0:  # each look asks the process
            node = run.stats().node("in")
            seen.append((node.lag or 0, node.lag_s or 0.0))
        return record

    source = ps.source("kafka", name="in", bootstrap_servers=broker.address, topics=[topic], place="process")
    with ps.Pipeline(source >> ps.processor(note) >> ps.store("null", name="kept")).start() as run:
        ends = time.monotonic() + 60
        while run.stats().node("kept").stored < 3000 or run.stats().node("in").lag:
            assert time.monotonic() < ends
            run.wait(0.05)
        assert run.stats().node("in").lag_s == 0
    most, most_s = map(max, zip(*seen, strict=True))
    assert 0 < most < 3000
    assert 3500 < most_s < 3700


def test_slow_downstream_stays_in_its_group(broker, read):
    """A record that takes many poll intervals does not cost the group membership: the consumer polls while paused."""
    topic = broker.topic()
    broker.produce(topic, numbers(4))
    options = {"max.poll.interval.ms": 1500, "session.timeout.ms": 1500, "heartbeat.interval.ms": 300}
    source = opened(broker, topics=topic, group=f"g-{topic}", options=options)
    try:
        assert len(read(source, 2)) >= 1
        before = source.position()
        threading.Event().wait(4.0)  # a processor at work: more than two poll intervals
        source.commit(before)
        assert source.position() == before
        broker.produce(topic, numbers(1, 4))
        assert read(source, 5 - before[f"{topic}/0"])[-1].data == b"4"
    finally:
        source.close()


def test_lag_grows_while_nothing_is_read(broker, source_of, read):
    """The lag is updated while downstream is slow and nothing is read, and returns to 0."""
    topic = broker.topic()
    source = source_of(topics=topic, refresh_s=0.2)
    broker.produce(topic, numbers(30))
    ends = time.monotonic() + 20
    while source.lag() < 30:
        assert time.monotonic() < ends, source.lag()
        time.sleep(0.05)  # the source's thread queries the broker
    assert len(read(source, 30)) == 30
    assert source.lag() == 0


def group_type(broker, group):
    """Return the protocol of a group according to the broker: CLASSIC or CONSUMER."""
    client = broker.admin
    [found] = [each for each in client.list_consumer_groups().result(10).valid if each.group_id == group]
    return found.type.name


CLASSIC = {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}


@pytest.mark.parametrize("options", [{}, {"group.protocol": "classic"}, CLASSIC], ids=["new", "classic", "old-options"])
def test_two_members_share_the_cameras(broker, source_of, read, options):
    """Cameras with one partition each are spread over the members of a group, and move when one leaves.

    The new group protocol is taken if the broker has it and no option decides otherwise. No partition stays paused,
    though both members had been too slow to read when they moved.
    """
    mark = broker.topic()
    names = [broker.topic(f"{mark}_{number}") for number in range(6)]
    settings = {"schema": f"{mark}_:cam_id", "group": f"g-{mark}", "refresh_s": 0.5, "options": options}
    one, other = source_of(**settings), source_of(**settings)
    ends = time.monotonic() + 30
    while sorted(map(len, (one.position(), other.position()))) != [3, 3]:
        one.read(10, 0.1), other.read(10, 0.1)
        assert time.monotonic() < ends, (one.position(), other.position())
    assert group_type(broker, f"g-{mark}") == ("CLASSIC" if options else "CONSUMER")
    for name in names:
        broker.produce(name, numbers(1))
    while not (
        one._open._assigned.is_paused and other._open._assigned.is_paused
    ):  # nobody reads: their threads pause and poll
        assert time.monotonic() < ends
        time.sleep(0.05)
    other.close()
    while len(one.position()) < 6:
        assert time.monotonic() < ends
        time.sleep(0.05)
    assert {record.channel for record in read(one, 6)} == {str(number) for number in range(6)}
    for name in names:
        broker.produce(name, numbers(1))
    assert {record.channel for record in read(one, 6)} == {str(number) for number in range(6)}


@pytest.mark.parametrize("options", [{}, CLASSIC], ids=["new", "classic"])
@pytest.mark.parametrize("start", ["committed", "end"])
def test_a_partition_that_comes_back(broker, source_of, read, options, start):
    """A partition that is revoked and assigned again continues at its offset, without duplicates or losses.

    Nothing was committed yet, and what was sent meanwhile is not passed over by `start="end"`.
    """
    topics = [broker.topic(), broker.topic()]
    settings = {"topics": topics, "group": f"g-{topics[0]}", "start": start, "options": options}
    one = source_of(**settings)
    ends = time.monotonic() + 30
    while len(one.position()) < 2:
        one.read(1, 0.1)
        assert time.monotonic() < ends
    for topic in topics:
        broker.produce(topic, numbers(5))
    first = read(one, 10)
    other = source_of(**settings)
    while len(other.position()) < 1 or len(one.position()) > 1:
        one.read(1, 0.1)
        assert time.monotonic() < ends
    other.close()
    for topic in topics:
        broker.produce(topic, numbers(5, 5))
    later = read(one, 10)
    assert sorted(each.seq for each in later) == sorted([*range(5, 10)] * 2)
    assert not any(each.discontinuity for each in [*first, *later])


@pytest.mark.parametrize(
    "options", [{}, CLASSIC, {"partition.assignment.strategy": "range"}], ids=["new", "sticky", "range"]
)
def test_partitions_that_cannot_be_begun_yet(broker, source_of, read, monkeypatch, options):
    """A partition whose start offset the broker cannot tell yet is begun later; its messages are read."""
    begin, tries = Starts.begin, []

    def fail_at_first(self, consumer, keys):
        tries.append(keys)
        if len(tries) < 3:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
        return begin(self, consumer, keys)

    monkeypatch.setattr(Starts, "begin", fail_at_first)
    topic = broker.topic(partitions=2)
    for partition in range(2):
        broker.produce(topic, numbers(3), partition=partition)
    source = source_of(topics=topic, group=f"g-{topic}", options=options, until_end=True)
    assert len(read(source)) == 6
    assert len(tries) >= 3


def test_a_cluster_without_the_new_protocol(classic_broker, read):
    """If the brokers lack the new group protocol, the classic one is used, and spreads the cameras too."""
    mark = classic_broker.topic()
    names = [classic_broker.topic(f"{mark}_{number}") for number in range(4)]
    settings = {"schema": f"{mark}_:cam_id", "group": f"g-{mark}", "refresh_s": 0.5}
    one, other = opened(classic_broker, **settings), opened(classic_broker, **settings)
    try:
        ends = time.monotonic() + 30
        while sorted(map(len, (one.position(), other.position()))) != [2, 2]:
            one.read(10, 0.1), other.read(10, 0.1)
            assert time.monotonic() < ends, (one.position(), other.position())
        for name in names:
            classic_broker.produce(name, numbers(3))
        found = {record.channel for source in (one, other) for record in read(source, 6)}
        assert found == {str(number) for number in range(4)}
    finally:
        one.close()
        other.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "topics, pattern and schema"),
        ({"topics": ["a"], "pattern": "a"}, "topics and pattern"),
        ({"pattern": "("}, "pattern"),
        ({"schema": "raw"}, "gap"),
        ({"topics": ["a"], "channels": ["b"]}, "schema"),
        ({"topics": ["a"], "start": "yesterday"}, "yesterday"),
        ({"topics": ["a"], "start": "2026-01-01T00:00:00"}, "zone"),
        ({"topics": ["a"], "max_lag": 0}, "max_lag"),
        ({"topics": ["a"], "options": {"enable.auto.commit": True}}, "enable.auto.commit"),
        ({"topics": ["a"], "options": {"sasl.password": {"file": "x"}}}, "sasl.password"),
        ({"topics": ["a"], "channels_from": {"nowhere": 1}}, "channels_from"),
    ],
)
def test_settings_that_are_wrong(settings, words):
    """A wrong setting raises ConfigError with its name, before connecting."""
    with pytest.raises(ConfigError, match=words):
        KafkaSource(bootstrap_servers="127.0.0.1:9", **settings)


def test_d7_options_go_to_the_client(broker, monkeypatch, caplog):
    """Any option reaches the client; a misspelt one and a missing environment variable are named."""
    with pytest.raises(ConfigError, match=r"fetch\.min\.bites"):
        opened(broker, topics="t", options={"fetch.min.bites": 1})
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(ConfigError, match="NOT_THERE"):
        opened(broker, topics="t", options={"sasl.password": {"env": "NOT_THERE"}})


def test_d7_sasl_and_tls(broker, monkeypatch, read, caplog):
    """SASL and TLS work with a secret from the environment; wrong passwords and expired certificates are reported."""
    topic = broker.topic()
    broker.produce(topic, numbers(1))
    monkeypatch.setenv("CAMERA_PASSWORD", "loopback-only")
    sasl = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "camera"}
    right = {**sasl, "sasl.password": {"env": "CAMERA_PASSWORD"}}

    def source(address, options, **more):
        return KafkaSource(bootstrap_servers=address, topics=[topic], until_end=True, options=options, **more)

    for address, options in (
        (broker.sasl, right),
        (broker.tls, {"security.protocol": "SSL", "ssl.ca.location": str(broker.ca)}),
    ):
        made = source(address, options)
        made.open()
        try:
            assert len(read(made)) == 1
        finally:
            made.close()
    wrong = source(broker.sasl, {**sasl, "sasl.password": "guessed-secret"}, timeout_s=5)
    with pytest.raises(SourceError, match=r"(?i)auth") as refused:
        wrong.open()
    assert not refused.value.retryable
    stale = source(broker.stale, {"security.protocol": "SSL", "ssl.ca.location": str(broker.stale_ca)}, timeout_s=5)
    with pytest.raises(SourceError, match=r"(?i)certificate"):
        stale.open()
    assert "guessed-secret" not in repr(wrong) + str(refused.value) + caplog.text


SECRET = "word-of-secret"
SECRETS = [
    {"sasl.password": SECRET, "sasl.mechanism": "PLAIN", "security.protocol": "SASL_PLAINTEXT", "sasl.username": "me"},
    {"ssl.key.password": SECRET, "ssl.key.location": "/not-there"},
    {"ssl.key.pem": SECRET, "security.protocol": "SSL"},
    {"sasl.oauthbearer.client.secret": SECRET, "debug": "all"},
    {"sasl.pasword": SECRET},
]


def test_topics_that_do_not_exist_are_named(broker, caplog):
    """A misspelled topic is named in a warning and in the report: it would look like one without messages."""
    caplog.set_level("WARNING", logger="penstock.kafka")  # a Comux may have set it before
    there = broker.topic()
    for settings in ({"topics": [there, "mispelled"]}, {"schema": "mispelled_:cam_id", "channels": ["a"]}):
        node = ps.source("kafka", bootstrap_servers=broker.address, until_end=True, **settings)
        report = ps.Pipeline(node >> ps.store("null")).run()
        assert report.ok
        assert "these topics did not exist at the start: 'mispelled" in str(report)
    early = [each.getMessage() for each in caplog.records if each.name == "penstock.kafka"]  # the report warns later
    assert len([text for text in early if "these topics did not exist at the start: 'mispelled" in text]) == 2
    node = ps.source("kafka", bootstrap_servers=broker.address, until_end=True, pattern="mispelled.*")
    assert "no topic matched" in str(ps.Pipeline(node >> ps.store("null")).run())
    node = ps.source("kafka", bootstrap_servers=broker.address, until_end=True, topics=[there])
    assert "topic" not in str(ps.Pipeline(node >> ps.store("null")).run())


@pytest.mark.parametrize("options", SECRETS, ids=lambda options: next(iter(options)))
def test_d7_a_secret_is_never_printed(options, caplog):
    """No error, log, repr or file contains a password, whatever is wrong with the option or the broker."""
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", logger="penstock.kafka")  # a Comux may have set it before
    shown = []
    for kind in (KafkaSource, KafkaStore, KafkaLinkSource, KafkaLinkStore):
        name = {"topics": ["t"]} if kind is KafkaSource else {"topic": "t"}
        made = kind(bootstrap_servers="127.0.0.1:9", timeout_s=0.3, options=options, **name)
        with pytest.raises((ConfigError, SourceError, CannotConnectToStoreError)) as refused:
            made.open()
        shown += [repr(made), "".join(traceback.format_exception(refused.value))]
    node = ps.source("kafka", bootstrap_servers="127.0.0.1:9", topics=["t"], timeout_s=0.3, options=options)
    pipeline = ps.Pipeline(node >> ps.store("null"))
    with pytest.raises(ConfigError, match="env") as refused:
        pipeline.to_toml()
    shown += [repr(node), repr(pipeline), pipeline.to_mermaid(), str(refused.value), caplog.text]
    assert SECRET not in "".join(shown)
