"""HeroSource alone: names, shapes, numbers, bounds, and faults of a network."""

from __future__ import annotations

import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
import zenoh

import penstock as ps
from penstock.component import Remark
from penstock.errors import ConfigError, EndOfSource, SourceError
from penstock_zenoh.hero.bounds import Bounds
from penstock_zenoh.hero.cbor_out import encode
from penstock_zenoh.hero.event import read_event_key
from penstock_zenoh.hero.names import subscribed_event
from penstock_zenoh.hero.source import HeroSource
from penstock_zenoh.hero.tagged import Tagged
from penstock_zenoh.session import Network


def _warnings(source):
    return [each.text for each in source.remarks() if each.level == "warning"]


@pytest.fixture
def network(endpoint):
    """A plain zenoh session that represents HEROs."""
    session = Network(listen=(endpoint,)).open()
    yield session
    session.close()


@pytest.fixture
def emit(network):
    """Send an event once a subscriber exists."""
    publishers = {}

    def send(hero, event, value, *, payload=None):
        key = f"@object/heros/{hero}/{event}"
        if key not in publishers:
            publishers[key] = network.declare_publisher(key, congestion_control=zenoh.CongestionControl.BLOCK)
            while not publishers[key].matching_status.matching:
                pass
        publishers[key].put(encode(value) if payload is None else payload)

    return send


def read(source, count):
    records = []
    deadline = time.monotonic() + 20
    while len(records) < count and time.monotonic() < deadline:
        records += source.read(count - len(records), 1)
    assert len(records) == count
    return records


def until_two(emit, *runs):
    """Emit states until both runs hear them."""
    while any(not run.stats().node("kept").stored for run in runs):
        emit("cam", "state", ["early", {}])
        runs[0].wait(0.02)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"object_selector": "cam*"}, r"write 'cam\$\*'"),
        ({"object_selector": ""}, "is not a selector of HEROs"),
        ({"event_name": "a/b"}, "is not the name of an event"),
        ({"event_name": []}, "name of an event"),
        ({"realm": "a/b"}, "is not a realm"),
        ({"shape": "guess"}, "shape"),
        ({"default_metadata": [1]}, "mapping"),
    ],
)
def test_wrong_settings_are_named(settings, said):
    """An invalid setting is refused before anything opens, with the remedy."""
    with pytest.raises((ConfigError, ValueError), match=said):
        HeroSource(**{"object_selector": "cam", "event_name": "data", **settings})


def test_names_with_slashes_and_regular_expressions():
    """A key is split at its ends: a name may have "/" and what means something in a regular expression."""
    assert read_event_key("@object/heros/lab/ca+m.2/acquisition_data") == ("heros", "lab/ca+m.2", "acquisition_data")
    assert read_event_key("@object/heros/cam") is None
    assert read_event_key("other/heros/cam/data") is None


def test_several_events_are_one_subscription():
    """Events are subscribed to by one key expression, which keeps their order."""
    assert subscribed_event(["frame"]) == "frame"
    assert subscribed_event(["acquisition_data", "acquisition_started"]) == "acquisition_$*"
    assert subscribed_event(["frame", "acquisition_started"]) == "*"


def test_several_events_of_several_heros(endpoint, emit):
    """Wildcards and several events: each record has its HERO as channel and its event in the metadata, in order."""
    source = HeroSource(object_selector="**", event_name=["frame", "state"], connect=[endpoint], realm="*")
    source.open()
    for number in range(3):
        emit("a", "frame", [number, {}])
        emit("a", "state", [number, {}])
        emit("b/c", "frame", [number, {}])
        emit("a", "other", [number, {}])
    records = read(source, 9)
    source.close()
    mine = [(r.metadata["event"], r.data) for r in records if r.channel == "heros/a"]
    assert mine == [(event, number) for number in range(3) for event in ("frame", "state")]
    assert [r.data for r in records if r.channel == "heros/b/c"] == [0, 1, 2]
    for channel in ("heros/a", "heros/b/c"):
        seqs = [r.seq for r in records if r.channel == channel]
        assert seqs == sorted(set(seqs))


@pytest.mark.parametrize(
    "value",
    [
        [["t", 1, "K"]],
        ["t", 1, "K"],
        3,
        "text",
        [1, 2],
        [1, {}, {}],
        [Tagged(9000, ["heros", "x"]), {}],
        [Tagged(9001, ["C", 1, "s"]), {}],
        Tagged(9005, {}),
        {1: 2},
        [1, {1: 2}],
    ],
)
def test_what_is_no_data_with_metadata_is_refused_with_its_bytes(value, endpoint, emit):
    """Another shape, a reference or a placeholder is refused, with its bytes; the next one goes on."""
    source = HeroSource(object_selector="cam", event_name="data", connect=[endpoint], bounds=())
    source.open()
    emit("cam", "data", value)
    emit("cam", "data", [7, {"a": 1}])
    (record,) = read(source, 1)
    (refused,) = source.take_refused()
    source.close()
    assert (record.data, record.metadata["a"]) == (7, 1)
    assert refused[0].data == encode(value)
    assert refused[0].channel == "cam"
    assert refused[0].seq != record.seq
    assert not source.take_refused()


@pytest.mark.parametrize("where", ["thread", "process"])
def test_garbage_is_dead_lettered_and_counted(where, endpoint, emit, tmp_path):
    """Bytes that are not CBOR are dead-lettered; the account balances, and neighbours are stored."""
    source = HeroSource(object_selector="cam", event_name="data", connect=[endpoint], bounds=())
    pipeline = ps.Pipeline(
        ps.source(source, name="cam", place=where) >> ps.store("null", name="kept"), dead_letters=str(tmp_path / "dead")
    )
    with pipeline.start() as run:
        for number in range(5):
            emit("cam", "data", [number, {}])
            emit("cam", "data", None, payload=b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff")
        while run.stats().node("kept").stored < 5:
            run.wait(0.02)
    cam = run.report.account.node("cam")
    assert (run.report.received, run.report.stored, cam.dead_lettered) == (10, 5, 5)
    assert "CBOR ends after 9 bytes" in cam.last_error
    assert run.report.balanced
    assert run.report.exit_code != 0


def _but_two(record):
    if record.metadata["frame"] == 2:
        raise ValueError("two")
    return record


@pytest.mark.parametrize("on_error", ["dead_letter", "skip"])
@pytest.mark.parametrize("where", ["thread", "process"])
def test_an_acquisition_counts_what_was_stored(where, on_error, endpoint, emit, tmp_path):
    """What a later node gives up is not stored; garbage never arrived: with the source in a process, too."""
    source = HeroSource(
        object_selector="cam", event_name="acquisition_data", connect=[endpoint], index=tmp_path / "index"
    )
    flow = ps.source(source, name="cam", place=where) >> ps.processor(_but_two, on_error=on_error)
    pipeline = ps.Pipeline(flow >> ps.store("null", name="kept"), dead_letters=str(tmp_path / "dead"))
    with pipeline.start() as run:
        emit("cam", "acquisition_started", {"frames": 6})
        for number in range(5):
            emit("cam", "acquisition_data", [number, {"frame": number}])
        emit("cam", "acquisition_data", None, payload=b"\xff")
        emit("cam", "acquisition_stopped", {"frames": 6, "frame_count": 6})
        while run.stats().node("kept").stored < 4:
            run.wait(0.02)
    assert run.report.exit_code != 0
    (path,) = (tmp_path / "index").glob("*.json")
    told = json.loads(path.read_text())
    assert [told[name] for name in ("expected", "emitted", "arrived", "stored", "complete")] == [6, 6, 5, 4, False]
    assert run.report.lost_upstream == 1
    assert "expected 6, emitted 6, arrived 5, stored 4" in str(run.report)


def test_bounds_are_given_as_records_only_if_they_are_asked_for(endpoint, emit, tmp_path):
    """Bounds in `event_name` are returned as records, in order, and bound acquisitions as well."""
    source = HeroSource(
        object_selector="cam",
        event_name=["acquisition_started", "acquisition_data"],
        connect=[endpoint],
        index=tmp_path,
    )
    source.open()
    emit("cam", "acquisition_started", {"frames": 1})
    emit("cam", "acquisition_data", [b"x", {"frame": 0}])
    emit("cam", "acquisition_stopped", {"frame_count": 1})
    records = read(source, 2)
    assert [record.data for record in records] == [{"frames": 1}, b"x"]
    assert [record.seq for record in records] == [0, 1]
    source.read(1, 0.5)
    assert source.remarks() == [
        Remark("acquisition 0 of HERO 'cam': expected 1, emitted 1, arrived 1, stored ?: complete", "info")
    ]
    source.close()
    (path,) = tmp_path.iterdir()
    assert '"complete": true' in path.read_text()


@pytest.mark.parametrize(
    ("events", "bounds", "is_counted", "names", "frames"),
    [
        (["acquisition_data"], None, False, True, {"acquisition_data"}),
        (["acquisition_data", "state"], None, True, True, {"acquisition_data"}),
        (["state"], None, False, False, set()),
        (["image"], None, True, True, {"image"}),
        (["acquisition_started"], None, True, False, set()),
        (["image", "state"], ["begun", "done"], False, True, {"image", "state"}),
        (["acquisition_data"], [], True, False, set()),
    ],
)
def test_frames_are_counted_and_states_are_not(events, bounds, is_counted, names, frames):
    """Bounds are followed where events can be frames of an acquisition; a HERO's states beside them do not count."""
    found = Bounds.of(events, bounds, is_counted=is_counted)
    assert (bool(found.names), found.frames) == (names, frames)


def test_a_source_of_states_knows_nothing_of_acquisitions(endpoint, emit):
    """A run of another event of the same camera is ok; of a run that has both, only frames count."""
    states = HeroSource(object_selector="cam", event_name="state", connect=[endpoint])
    both = HeroSource(object_selector="cam", event_name=["state", "acquisition_data"], connect=[endpoint])
    first = ps.Pipeline(ps.source(states, name="states") >> ps.store("null", name="kept")).start()
    with first, ps.Pipeline(ps.source(both, name="both") >> ps.store("null", name="kept")).start() as second:
        until_two(emit, first, second)
        emit("cam", "acquisition_started", {"frames": 2})
        for number in range(2):
            emit("cam", "state", [number, {}])
            emit("cam", "acquisition_data", [number, {"frame": number}])
        emit("cam", "acquisition_stopped", {"frames": 2, "frame_count": 2})
        emit("cam", "state", ["last", {}])
        for run in (first, second):
            stored = run.stats().node("kept").stored
            while stored != (stored := run.stats().node("kept").stored) or stored < 3:
                run.wait(0.2)
    assert first.report.ok, str(first.report)
    assert second.report.ok, str(second.report)
    assert any("expected 2, emitted 2, arrived 2, stored 2: complete" in note for note in second.report.notes)
    assert not any("acquisition" in note for note in first.report.notes)


def test_an_incomplete_acquisition_is_an_error_at_the_end_once(endpoint, emit):
    """close() names incomplete acquisitions; a second close() does nothing."""
    source = HeroSource(object_selector="cam", event_name="acquisition_data", connect=[endpoint])
    source.open()
    emit("cam", "acquisition_started", {"frames": 5})
    emit("cam", "acquisition_data", [b"x", {}])
    read(source, 1)
    with pytest.raises(SourceError, match="expected 5, emitted \\?, arrived 1, stored \\?, no stop event arrived"):
        source.close()
    source.close()


def test_a_default_that_holds_a_directory_stays(endpoint, emit):
    """Metadata of an event win over defaults, but never over one that names a place on the disk."""
    source = HeroSource(
        object_selector="cam",
        event_name="data",
        connect=[endpoint],
        bounds=(),
        default_metadata={"file_path": "/data", "root": "x", "gain": 1},
    )
    source.open()
    emit("cam", "data", [b"x", {"file_path": "/etc", "root": "/", "gain": 2}])
    (record,) = read(source, 1)
    source.close()
    assert {name: record.metadata[name] for name in ("file_path", "root", "gain")} == {
        "file_path": "/data",
        "root": "x",
        "gain": 2,
    }


@pytest.mark.parametrize("shape", ["pair", "arrays"])
def test_events_of_one_form_are_read_together_in_each_shape_of_pairs(shape, endpoint, emit):
    """Arrays with metadata take the quick path, in the shape of `ArrayArchiver` too; lists between them do not."""
    source = HeroSource(object_selector="cam", event_name="data", connect=[endpoint], bounds=(), shape=shape)
    source.open()
    for number in range(3):
        emit("cam", "data", [numpy.full(4, number), {"n": number}])
    records = read(source, 3)
    (sender,) = source._senders.values()
    assert sender.form is not None
    emit("cam", "data", [[5, 6], {"n": 3}])
    records += read(source, 1)
    source.close()
    assert [record.metadata["n"] for record in records] == [0, 1, 2, 3]
    assert [list(record.data) for record in records] == [[0] * 4, [1] * 4, [2] * 4, [5, 6]]
    assert isinstance(records[-1].data, numpy.ndarray) == (shape == "arrays")


@pytest.mark.parametrize("keyed", [True, False])
def test_an_acquisition_that_began_before_the_source_is_not_complete(keyed, endpoint, emit, tmp_path):
    """Frames that a HERO sent before the source was opened are missing in the account, and the run is not ok."""
    source = HeroSource(
        object_selector="cam",
        event_name="acquisition_data",
        connect=[endpoint],
        sequence_key="frame" if keyed else None,
        index=tmp_path,
    )
    run = ps.Pipeline(ps.source(source, name="cam") >> ps.store("null", name="kept")).start()
    for number in (3, 4, 6):
        emit("cam", "acquisition_data", [0, {"frame": number}])
    emit("cam", "acquisition_stopped", {"frame_count": 8})
    emit("cam", "acquisition_stopped", {"frame_count": 8})  # once more: no frame came in between
    emit("cam", "acquisition_started", {"frames": 1})
    emit("cam", "acquisition_data", [0, {"frame": 0}])
    emit("cam", "acquisition_stopped", {"frame_count": 1})
    emit("cam", "acquisition_data", [0, {"frame": 0}])  # live view
    while run.stats().node("kept").stored < 5:
        run.wait(0.02)
    report = run.stop()
    assert report.exit_code != 0
    assert report.lost_upstream == (1 if keyed else 0)
    said = "expected ?, emitted 8, arrived 3, stored 3, "
    assert f"{said}{'missing 0-2, 5, 7, ' if keyed else ''}no start event arrived: not complete" in str(report)
    first, second = (json.loads(path.read_text()) for path in sorted(tmp_path.iterdir(), key=lambda one: one.name[-6]))
    assert (first["started_ns"], first["realm"], first["stored"], first["complete"]) == (None, "heros", 3, False)
    assert (second["acquisition"], second["arrived"], second["complete"]) == (1, 1, True)


def test_an_acquisition_whose_start_event_is_lost_is_complete_if_all_frames_are_stored(endpoint, emit):
    """A start event that did not arrive (HEROs send with best effort) does not make an acquisition incomplete."""
    source = HeroSource(object_selector="cam", event_name="acquisition_data", connect=[endpoint], sequence_key="frame")
    run = ps.Pipeline(ps.source(source, name="cam") >> ps.store("null", name="kept")).start()
    for number in (7, 8, 0, 1, 2):  # live view, then an acquisition
        emit("cam", "acquisition_data", [0, {"frame": number}])
    emit("cam", "acquisition_stopped", {"frame_count": 3})
    while run.stats().node("kept").stored < 5:
        run.wait(0.02)
    report = run.stop()
    assert report.ok, str(report)
    assert "emitted 3, arrived 3, stored 3, no start event arrived: complete" in str(report)


def test_events_without_a_record_do_not_shorten_the_wait(endpoint, emit):
    """A read that receives only bounds goes on waiting for a record; one that receives an invalid event returns."""
    source = HeroSource(object_selector="cam", event_name="acquisition_data", connect=[endpoint])
    source.open()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(source.read, 10, 60.0)
        emit("cam", "acquisition_started", {"frames": 1})
        while not _warnings(source) and not reading.done():
            time.sleep(0.01)
        emit("cam", "acquisition_data", [7, {}])
        assert [record.data for record in reading.result()] == [7]
        emit("cam", "acquisition_stopped", {"frame_count": 1})
        emit("cam", "acquisition_data", None, payload=b"\xff")
        assert source.read(10, 60.0) == []
        assert len(source.take_refused()) == 1
        reading = pool.submit(source.read, 10, 60.0)
        source.end_soon()
        with pytest.raises(EndOfSource):
            reading.result()
    source.close()


def test_sigterm_while_events_are_queued_loses_none(endpoint, emit, tmp_path):
    """A run that is asked to end stores and counts all waiting events, more than its queues hold."""
    source = HeroSource(
        object_selector="cam", event_name="data", connect=[endpoint], bounds=(), sequence_key="n", capacity=10_000
    )
    gate = threading.Event()

    def slow(record):
        gate.wait(30)
        return record

    pipeline = ps.Pipeline(ps.source(source, name="cam") >> ps.processor(slow) >> ps.store("null", name="kept"))
    run = pipeline.start()
    for number in range(10_000):
        emit("cam", "data", [number, {"n": number}])
    while source.lag() + run.stats().node("cam").received < 10_000:
        run.wait(0.02)
    run.stop_soon()
    gate.set()
    report = run.wait(60)
    assert (report.received, report.stored, report.lost_upstream) == (10_000, 10_000, 0), str(report)
    assert report.ok


def test_a_hero_that_goes_on_sending_does_not_keep_a_run_from_its_end(endpoint, emit):
    """A run that is asked to end does so even if a HERO sends without a pause."""
    source = HeroSource(object_selector="cam", event_name="data", connect=[endpoint], bounds=(), capacity=16)
    run = ps.Pipeline(ps.source(source) >> ps.store("null", name="kept")).start()
    ended = threading.Event()

    def send():
        while not ended.is_set():
            emit("cam", "data", [1, {}])

    sender = threading.Thread(target=send)
    sender.start()
    while not run.stats().node("kept").stored:
        run.wait(0.01)
    report = run.stop()
    ended.set()
    sender.join()
    assert report.ok, str(report)
    assert report.received == report.stored


def test_two_heros_of_one_name_are_remarked(endpoint, emit):
    """Two HEROs of one name interleave counts: each event is stored under a number of its own, and it is reported."""
    source = HeroSource(
        object_selector="cam", event_name="data", connect=[endpoint], bounds=(), sequence_key="n", until_silent_s=0.5
    )
    run = ps.Pipeline(ps.source(source) >> ps.store("null", name="kept")).start()
    for number in range(20):
        for _ in range(2):
            emit("cam", "data", [number, {"n": number}])
    report = run.wait(60)
    assert report.stored == 40
    assert report.lost_upstream == 0
    assert "restarted 20 times (or two HEROs have this name)" in str(report)


def test_frames_that_arrive_together_keep_their_order_and_numbers(endpoint, emit, opened):
    """Frames of one form between events of others are records in order, with gaps, bounds and metadata as single ones.

    Counts with a gap, a frame of another shape, an invalid event and the end of an acquisition interrupt a run.
    """
    source = HeroSource(
        object_selector="cam", event_name="acquisition_data", sequence_key="frame", connect=[endpoint],
        default_metadata={"lab": 1, "frame": -1},
    )  # fmt: skip
    opened(source)
    for number in (0, 1, 2, 5, 6):
        emit("cam", "acquisition_data", (numpy.full((2, 2), number, numpy.uint16), {"frame": number}))
    emit("cam", "acquisition_data", "an invalid event")
    emit("cam", "acquisition_started", {"frames": 3})
    emit("cam", "acquisition_data", (numpy.zeros(3), {"frame": 0}))
    for number in (1, 2):
        emit("cam", "acquisition_data", (numpy.full((2, 2), number, numpy.uint16), {"frame": number}))
    records = []
    while len(records) < 8:
        records += source.read(100, 10.0)
    assert [record.data.flat[0] for record in records] == [0, 1, 2, 5, 6, 0, 1, 2]
    assert [record.metadata["frame"] for record in records] == [0, 1, 2, 5, 6, 0, 1, 2]
    assert [record.discontinuity for record in records] == [False, False, False, True, False, False, False, False]
    assert [record.seq for record in records[:5]] == [0, 1, 2, 5, 6]
    assert all(one.seq < other.seq for one, other in itertools.pairwise(records))
    assert ["acquisition" in record.metadata for record in records] == [False] * 5 + [True] * 3
    assert all(record.metadata["lab"] == 1 and record.metadata["source_name"] == "cam" for record in records)
    assert source.lost_upstream() == {"cam": 2}
    assert len(source.take_refused()) == 1
    assert "arrived 3" in _warnings(source)[0]
    with pytest.raises(SourceError, match="no stop event"):
        source.close()
