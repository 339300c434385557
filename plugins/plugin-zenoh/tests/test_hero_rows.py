"""HEROs with real peers: a LocalHERO, an EventObserver, a HEROObserver and an archiver of herostools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy
import pytest

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.errors import StoreError
from penstock.record import Record
from penstock_zenoh.hero.source import HeroSource
from penstock_zenoh.hero.store import HeroStore


@pytest.fixture
def camera(heros, endpoint):
    """A real LocalHERO that listens at `endpoint`."""
    return heros("camera", listen=[endpoint], name="lab/cam2")


def frames(endpoint, tmp_path, **settings):
    given = {
        "object_selector": "lab/*",
        "event_name": "acquisition_data",
        "sequence_key": "frame",
        "index": tmp_path / "index",
        **settings,
    }
    return ps.source(HeroSource(connect=[endpoint], **given), name="heros")


def accounts(tmp_path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((tmp_path / "index").glob("*.json"))]


def image(number):
    return numpy.arange(12, dtype=numpy.uint16).reshape(3, 4) * 3 + number


def test_a1_observe(camera, endpoint, tmp_path, caplog):
    """Events of a real HERO are received as records with their acquisition, whose account is complete.

    A complete acquisition is logged as information, not as a warning.
    """
    caplog.set_level("INFO", "penstock.report")
    kept = MemoryStore()
    with ps.Pipeline(frames(endpoint, tmp_path) >> ps.store(kept, name="kept")).start() as run:
        camera.do("wait", event="acquisition_data")
        camera.do("run", frames=20)
        camera.do("run", frames=3)
        while run.stats().node("kept").stored < 23:
            run.wait(0.05)
    assert run.report.ok, str(run.report)
    records = [kept.get(key) for key in list(kept.keys())]
    assert [record.seq for record in records] == list(range(23))
    for record, number in zip(records, [*range(20), *range(3)], strict=True):
        assert record.channel == "lab/cam2"
        assert record.metadata["frame"] == number
        assert record.metadata["note"] == "µm"
        assert record.metadata["acquisition"]["rate"] == 5.0
        assert (record.metadata["source_name"], record.metadata["realm"]) == ("lab/cam2", "heros")
        assert record.metadata["event"] == "acquisition_data"
        assert record.data.dtype == numpy.uint16
        assert numpy.array_equal(record.data, image(number))
    saved = accounts(tmp_path)
    assert [(one["expected"], one["emitted"], one["arrived"], one["stored"]) for one in saved] == [
        (20, 20, 20, 20),
        (3, 3, 3, 3),
    ]
    assert all(one["complete"] and one["missing"] == [] for one in saved)
    assert "acquisition 1 of HERO 'lab/cam2': expected 3, emitted 3, arrived 3, stored 3: complete" in str(run.report)
    levels = {entry.levelname for entry in caplog.records if "acquisition" in entry.getMessage()}
    assert levels == {"INFO"}


@pytest.mark.parametrize("keyed", [True, False])
def test_a1_what_never_arrived_is_lost_upstream_and_named(keyed, camera, endpoint, tmp_path):
    """Frames that a HERO counts and that did not arrive are lost upstream, once, and the run is not ok."""
    source = frames(endpoint, tmp_path, sequence_key="frame" if keyed else None)
    with ps.Pipeline(source >> ps.store("null", name="kept")).start() as run:
        camera.do("wait", event="acquisition_data")
        camera.do("run", frames=10, skip=[0, 4, 5, 9])
        while run.stats().node("kept").stored < 6:
            run.wait(0.05)
        camera.do("observable_data", arguments=[1])
    assert run.report.lost_upstream == 4, str(run.report)
    assert run.report.exit_code != 0
    (saved,) = accounts(tmp_path)
    assert (saved["emitted"], saved["arrived"], saved["stored"], saved["complete"]) == (10, 6, 6, False)
    assert saved["missing"] == ([[0, 0], [4, 5], [9, 9]] if keyed else None)


def test_a1_an_acquisition_that_does_not_end_is_not_complete(camera, endpoint, tmp_path):
    """Without `acquisition_stopped` the account is incomplete, and the exit status is not 0."""
    with ps.Pipeline(frames(endpoint, tmp_path) >> ps.store("null", name="kept")).start() as run:
        camera.do("wait", event="acquisition_data")
        camera.do("run", frames=3, stopped=False)
        while run.stats().node("kept").stored < 3:
            run.wait(0.05)
    assert run.report.exit_code != 0
    assert "no stop event arrived: not complete" in str(run.report)
    assert accounts(tmp_path)[0]["stopped_ns"] is None


def test_a1_another_shape_is_dead_lettered_or_mapped(camera, endpoint, tmp_path, monkeypatch):
    """Observables are dead-lettered with their bytes, unless the user names that shape."""
    monkeypatch.chdir(tmp_path)
    kept = MemoryStore()
    as_pair = HeroSource(object_selector="lab/cam2", event_name="observable_data", connect=[endpoint], bounds=())
    mapped = HeroSource(
        object_selector="**", event_name="observable_data", connect=[endpoint], bounds=(), shape="observables"
    )
    dead = ps.Pipeline(ps.source(as_pair, name="pair") >> ps.store("null", name="kept"), dead_letters="dead").start()
    with dead, ps.Pipeline(ps.source(mapped) >> ps.store(kept, name="kept")).start() as run:
        camera.do("wait", event="observable_data")
        while run.stats().node("kept").stored < 1 or dead.stats().node("pair").dead_lettered < 1:
            camera.do("observable_data", arguments=[[["t", 1.5, "K"], ["p", 2, "Pa"]]])
            run.wait(0.05)
    assert run.report.ok
    assert kept.get(next(kept.keys())).data == {"t": {"value": 1.5, "unit": "K"}, "p": {"value": 2, "unit": "Pa"}}
    assert dead.report.account.node("pair").dead_lettered >= 1
    assert "shape='observables'" in dead.report.account.node("pair").last_error
    assert dead.report.balanced
    assert list((tmp_path / "dead").rglob("*"))


def test_a2_emit(heros, endpoint):
    """A real EventObserver receives the arrays and metadata that a penstock store emits."""
    store = HeroStore(hero="pen/stock", event_name="acquisition_data", listen=[endpoint], wait_for_observers=True)
    store.open()
    listener = heros("listener", connect=[endpoint], hero="pen/stock", event="acquisition_data")
    store.write([Record(image(3), channel="x", metadata={"frame": 3, "source_name": "x"}), Record({"a": 1})])
    store.sync()
    first, second = listener.answer(), listener.answer()
    store.close()
    assert first["name"] == "pen/stock"
    assert "dtype=uint16" in first["value"]
    assert "{'frame': 3}" in first["value"]
    assert second["value"] == "{'a': 1}"


def test_a2_discoverable(heros, endpoint):
    """A real HEROObserver lists a penstock store that is discoverable."""
    store = HeroStore(hero="penstock", event_name="acquisition_data", listen=[endpoint], discoverable=True)
    store.open()
    observer = heros("observer", connect=[endpoint])
    for _ in range(200):
        seen = observer.ask("look")["seen"]
        if seen:
            break
    store.close()
    assert seen == ["penstock"]


def test_a2_nobody_observes(endpoint):
    """With `wait_for_observers`, emitting without an observer is an error that names the records."""
    store = HeroStore(hero="penstock", event_name="data", listen=[endpoint], wait_for_observers=True, timeout_s=0.05)
    store.open()
    record = Record(1)
    with pytest.raises(StoreError, match=r"no observer within 0\.05 s") as error:
        store.write([record])
    assert [one for one, _ in error.value.failed] == [record]
    store.close()


def test_a2_an_archived_run_is_replayed_with_its_timing(endpoint):
    """Emitted with `realtime`, events come as far apart as their records, and observed again they are the same."""
    store = HeroStore(hero="again", event_name="data", listen=[endpoint], realtime=True, wait_for_observers=True)
    source = HeroSource(object_selector="again", event_name="data", connect=[endpoint], bounds=(), describe=False)
    store.open()
    source.open()
    began_ns = 1_700_000_000_000_000_000
    store.write([Record(image(n), metadata={"n": n}, time_ns=began_ns + n * 300_000_000) for n in range(3)])
    records: list[Record] = []
    while len(records) < 3:
        records += source.read(10, 5)
    source.close()
    store.close()
    assert [dict(record.metadata) for record in records] == [{"n": n} for n in range(3)]
    assert numpy.array_equal(records[2].data, image(2))
    assert records[2].time_ns - records[0].time_ns > 450_000_000


def test_a4_kill_9_of_an_archiver_leaves_no_cut_file(heros, endpoint, tmp_path):
    """An archiver that is killed in the middle of a stream leaves only complete files."""
    camera = heros("camera", listen=[endpoint], name="cam")
    code = (
        "import sys; from penstock_zenoh import ArrayArchiver;"
        "ArrayArchiver(sys.argv[1] + '/{{ frame }}.npy', object_selector='cam', event_name='acquisition_data',"
        " connect=[sys.argv[2]]); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), endpoint],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
    )
    try:
        camera.do("wait", event="acquisition_data")
        camera.tell("run", frames=3000)
        while len(list(tmp_path.glob("*.npy"))) < 20:
            assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    files = list(tmp_path.glob("*.npy"))
    assert len(files) >= 20
    for path in files:
        assert numpy.array_equal(numpy.load(path), image(int(path.stem)))


def test_a1_a_router_that_is_killed_and_started_again(peer, endpoint, other_endpoint):
    """A source that receives a HERO through a router receives it again after the router was killed and restarted."""
    router = peer("source", rendezvous=endpoint, key="none", mode="router")
    router.do("open")
    source = HeroSource(
        object_selector="cam", event_name="data", connect=[endpoint], mode="client", bounds=(), sequence_key="n"
    )
    store = HeroStore(hero="cam", event_name="data", connect=[endpoint], mode="client", wait_for_observers=True)
    source.open()
    store.open()
    store.write([Record(0, metadata={"n": 0})])
    got: list[Record] = []
    deadline = time.monotonic() + 60
    while not got and time.monotonic() < deadline:
        got += source.read(10, 1)
    router.kill()
    again = peer("source", rendezvous=endpoint, key="none", mode="router")
    again.do("open")
    number = 1
    while len(got) < 2 and time.monotonic() < deadline:
        store.write([Record(number, metadata={"n": number})])
        number += 1
        got += source.read(10, 0.2)
    source.close()
    store.close()
    again.do("close")
    assert [record.data for record in got[:1]] == [0]
    assert len(got) >= 2
    assert source.lost_upstream().get("cam", 0) == got[1].data - 1
