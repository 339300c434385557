"""Live changes: nodes are added, removed and replaced during a run, and nothing else is interrupted."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import threading
from pathlib import Path

import pytest

import penstock as ps
from penstock.errors import EndOfSource, RunError, WiringError
from penstock.testing.leaks import Held, leaks

_spec = importlib.util.spec_from_file_location("penstock_test_runs", Path(__file__).with_name("runs.py"))
runs = sys.modules.setdefault("penstock_test_runs", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(runs)
Shelf = runs.Shelf


class Camera:
    """Return numbered records of one channel until the end is set; remember the committed ones."""

    gives = "any"

    def __init__(self, channel, limit=10**9):
        self.channel, self.limit = channel, limit
        self.next = 0
        self.committed = []
        self.closed = 0
        self.some = threading.Event()

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        if self.next >= self.limit:
            raise EndOfSource("end")
        record = ps.Record(self.next, channel=self.channel, seq=self.next)
        self.next += 1
        if self.next > 20:
            self.some.set()
        threading.Event().wait(0.0005)
        return [record]

    def position(self):
        return self.next

    def commit(self, position):
        self.committed.append(position)

    def close(self):
        self.closed += 1


@pytest.fixture(autouse=True)
def _no_threads_left(tmp_path, monkeypatch):
    """After every test, no thread of penstock is left."""
    monkeypatch.chdir(tmp_path)
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("penstock")] == []


def whole(shelf, channel, camera):
    return [record.data for record in shelf.log if record.channel == channel] == list(range(camera.next))


def test_a_camera_comes_and_goes():
    """An added source is stored beside the others; when it is removed, all its records are stored and committed."""
    first, second, shelf = Camera("one"), Camera("two"), Shelf()
    with ps.Pipeline(
        ps.source(first, name="one") >> ps.store(shelf, name="archive"), checkpoint_every_s=0.02
    ).start() as run:
        names = run.add(ps.source(second, name="two") >> (lambda record: record) >> run.node("archive"))
        assert names == ["two", "lambda"]
        assert second.some.wait(10)
        run.remove("two")
        assert whole(shelf, "two", second)
        assert second.committed[-1] == second.next
        assert second.closed == 1
        assert first.some.wait(10)
        before = first.next
        with pytest.raises(RunError, match="'two' is not in the run"):
            run.remove("two")
        first.some.clear()
        assert first.some.wait(10)
        assert first.next > before
    assert run.report.ok, run.report
    assert whole(shelf, "one", first)
    assert run.report.account.node("two").received == second.next
    assert run.report.stored == first.next + second.next


def test_the_last_camera_goes_and_another_comes():
    """A run without a source keeps running; its archive receives later records."""
    first, second, shelf = Camera("one"), Camera("two"), Shelf()
    with ps.Pipeline(
        ps.source(first, name="one") >> ps.store(shelf, name="archive"), checkpoint_every_s=0.02
    ).start() as run:
        assert first.some.wait(10)
        run.remove("one")
        assert run.wait(0.2) is None
        run.add(ps.source(second, name="two") >> run.node("archive"))
        assert second.some.wait(10)
    assert run.report.ok, run.report
    assert whole(shelf, "one", first)
    assert whole(shelf, "two", second)
    assert second.committed[-1] == second.next


def test_a_viewer_is_attached_and_detached():
    """A node joined to a running one gets its records from then on, and none once it is removed."""
    camera, shelf, seen = Camera("one"), Shelf(), []
    got = threading.Event()

    def show(record):
        seen.append(record.data)
        got.set()

    source = ps.source(camera, name="one")
    with ps.Pipeline(source >> ps.store(shelf)).start() as run:
        run.add(source >> ps.edge(capacity=1, when_full="drop_oldest") >> ps.processor(show, name="show"))
        assert got.wait(10)
        run.remove("show")
        count = len(seen)
        camera.some.clear()
        assert camera.some.wait(10)
        assert len(seen) == count
    assert run.report.ok, run.report
    assert whole(shelf, "one", camera)
    edge = run.report.account.edge("one", "show")
    assert edge.put == edge.taken + edge.dropped


def test_replace_changes_a_processor_a_store_and_a_source():
    """A replacement gets later records; nothing is lost or repeated, and the counters continue."""
    camera, one, two = Camera("one"), Shelf(), Shelf()
    with ps.Pipeline(
        ps.source(camera, name="camera")
        >> ps.processor(lambda r: r.replace(metadata={"by": 1}), name="mark")
        >> ps.store(one, name="archive"),
        checkpoint_every_s=0.02,
    ).start() as run:
        assert camera.some.wait(10)
        run.replace("mark", ps.processor(lambda r: r.replace(metadata={"by": 2})))
        run.replace("archive", ps.store(two))
        camera.some.clear()
        assert camera.some.wait(10)
        other = Camera("other")
        run.replace("camera", ps.source(other))
        assert other.some.wait(10)
    assert run.report.ok, run.report
    marks = [record.metadata["by"] for record in one.log + two.log]
    assert marks == sorted(marks)
    assert set(marks) == {1, 2}
    everything = [(record.channel, record.data) for record in one.log + two.log]
    assert everything == [("one", n) for n in range(camera.next)] + [("other", n) for n in range(other.next)]
    assert one.log
    assert two.log
    assert camera.committed[-1] == camera.next
    assert (camera.closed, other.closed, len(one.closed)) == (1, 1, 1)
    assert run.report.account.node("mark").records_in == camera.next + other.next
    first_of_other = next(record for record in two.log if record.channel == "other")
    assert first_of_other.discontinuity


def test_a_replaced_node_can_be_joined_and_handles_are_forgotten():
    """The handle that `node` returns after a replacement can be joined, like the old one; unused ones are freed."""
    camera, shelf, seen = Camera("one"), Shelf(), threading.Event()
    source = ps.source(camera, name="one")
    with ps.Pipeline(source >> ps.edge(capacity=10) >> ps.store(shelf, name="archive")).start() as run:
        for _ in range(20):
            run.replace("one", ps.source(Camera("other")))
        run.add(run.node("one") >> ps.processor(lambda record: seen.set(), name="new"))
        assert seen.wait(10)
        seen.clear()
        run.add(source >> ps.processor(lambda record: seen.set(), name="old"))
        assert seen.wait(10)
        gc.collect()
        assert len(run._graph.names) < 10
    assert run.report.ok, run.report


def test_the_account_of_an_aborted_run_counts_what_a_removed_source_gave():
    """Records lost on the way to a node's workers are counted, even if the source has been removed."""
    hold, held = threading.Event(), threading.Event()

    def work(record):
        if record.channel == "one":
            held.set()
            hold.wait(30)
        return record

    first, second, shelf = Camera("one"), Camera("two", limit=5), Shelf()
    flow = ps.source(first, name="one") >> ps.edge(capacity=4) >> ps.processor(work, name="work", workers=2)
    run = ps.Pipeline(flow >> ps.edge(capacity=10) >> ps.store(shelf), checkpoint_every_s=0.01).start()
    run.pause("one")
    hold.set()
    run.add(ps.source(second, name="two") >> run.node("work"))
    while run.stats().node("two").received < 5:
        held.wait(0.01)
    run.remove("two")
    hold.clear()
    held.clear()
    run.resume("one")
    assert held.wait(10)
    tick = threading.Event()
    while not run.stats().edge("work:spread", "work:spread").in_flight:
        tick.wait(0.01)
    run.abort()
    hold.set()
    report = run.wait(20)
    assert report.aborted
    assert report.balanced, report


def test_a_paused_source_that_is_stopped_sees_the_barrier_that_came_with_it():
    """A barrier and a stop that reach a paused source at the same moment are both seen: the run ends."""
    camera = Camera("one")
    run = ps.Pipeline(ps.source(camera, name="one") >> ps.store(Shelf()), checkpoint_every_s=1000).start()
    lane = run._plan.sources["one"]

    begun = []

    class Mailed(threading.Event):
        def wait(self, timeout=None):
            if not begun:
                begun.append(run._engine.checkpoints.begin())
                lane.stop()
            return super().wait(timeout)

    lane._mailed = Mailed()
    run.pause("one")
    report = run.wait(20)
    run.abort()
    assert begun == [True]
    assert report is not None, "the run hangs"
    assert report.ok, report
    assert camera.committed[-1] == camera.next


def test_what_cannot_be_opened_changes_nothing():
    """An addition or replacement whose `open` raises is rejected, and the run continues unchanged."""

    class Locked(Shelf):
        def open(self):
            raise PermissionError("locked")

    camera, shelf = Camera("one"), Shelf()
    source = ps.source(camera, name="one")
    with ps.Pipeline(source >> ps.store(shelf, name="archive"), checkpoint_every_s=0.02).start() as run:
        with pytest.raises(RunError, match=r"'Locked' .*cannot open: locked"):
            run.add(source >> ps.store(Locked()))
        with pytest.raises(RunError, match=r"'archive' .*cannot open: locked"):
            run.replace("archive", ps.store(Locked()))
        with pytest.raises(RunError, match=r"'Broken' .*cannot open"):
            run.add(
                ps.source(type("Broken", (Camera,), {"open": lambda self: 1 / 0})("x"), name="Broken")
                >> run.node("archive")
            )
        camera.some.clear()
        assert camera.some.wait(10)
        run._engine.checkpoint_soon()
        done = run._engine.checkpoints.done
        while run._engine.checkpoints.done == done:
            run._finished.wait(0.01)
    assert run.report.ok, run.report
    assert whole(shelf, "one", camera)


def test_what_cannot_be_joined_says_why():
    """Fused nodes, a loose end and another role are rejected with the reason and the remedy."""
    camera = Camera("one")
    source = ps.source(camera, name="one")
    flow = source >> ps.processor(lambda record: record, name="p") >> ps.store(Shelf(), name="archive")
    with ps.Pipeline(flow).start() as run:
        with pytest.raises(RunError, match=r"'one' is fused with the node behind it.*edge"):
            run.add(source >> ps.store(Shelf(), name="other"))
        with pytest.raises(WiringError, match="nothing takes the records"):
            run.add(ps.source([1], name="loose"))
        with pytest.raises(WiringError, match="'p' is a processor: a store cannot take its place"):
            run.replace("p", ps.store(Shelf()))
        with pytest.raises(RunError, match=r"'p'.* cannot be removed: fused with 'one'"):
            run.remove("p")
    with pytest.raises(RunError, match="is over"):
        run.add(ps.source([1]) >> ps.store(Shelf()))


def test_one_of_two_sources_ends_by_itself_and_the_other_is_removed():
    """An archive that loses its sources in different ways still ends, and everything is stored."""
    one, two, shelf = Camera("one", limit=50), Camera("two"), Shelf()
    flow = [ps.source(one, name="one"), ps.source(two, name="two")] >> ps.store(shelf)
    with ps.Pipeline(flow, checkpoint_every_s=0.02).start() as run:
        assert two.some.wait(10)
        run.remove("two")
    assert run.report.ok, run.report
    assert whole(shelf, "two", two)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cycles", [1000 if os.environ.get("PENSTOCK_FAULTS") == "full" else 60])
def test_cameras_come_and_go_all_day(cycles):
    """After many cycles of add and remove no thread, lane, edge, file or shared memory is left; the counters add up."""
    shelf, base = Shelf(), Camera("base")
    total = 0
    with ps.Pipeline(
        ps.source(base, name="base") >> ps.store(shelf, name="archive"), checkpoint_every_s=0.01
    ).start() as run:
        held = lanes = None
        memory = 0
        for number in range(cycles):
            camera = Camera(f"cam{number}", limit=5)
            run.add(ps.source(camera, name="cam") >> (lambda record: record) >> run.node("archive"))
            run.remove("cam")
            total += camera.next
            if number == 4:
                held, memory, lanes = Held.now(), resident_bytes(), len(run._plan.lanes)
        assert leaks(held) == []
        assert resident_bytes() - memory < 30 * 2**20 + cycles * 2**10
        assert len(run._plan.lanes) == lanes
        assert len(run._plan.edges) == 1
        assert len(run._graph.names) <= 6
    assert run.report.ok, run.report
    assert run.report.account.node("cam").received == total
    assert run.report.stored == total + base.next


def test_a_control_channel_of_a_node():
    """A source node is the source of a control channel with its own options, as a component is."""
    asked = []
    orders = ps.source([{"action": "ask", "argument": 3}], name="orders")
    control = ps.control(orders, actions={"ask": lambda run, argument: asked.append(argument)})
    assert [node.name for node in ps.Pipeline(control >> ps.store("null")).nodes] == [
        "orders",
        "orders-actions",
        "null",
    ]
    assert ps.Pipeline(control >> ps.store("null")).run().ok
    assert asked == [3]


def test_d5_a_control_channel(tmp_path):
    """Actions create, delete, update, pause, resume, stats and the user's own are executed and answered."""
    commands = ps.control  # the name is public
    todo, answers, got = [], [], threading.Semaphore(0)
    asked = []

    class Commands(Camera):
        def read(self, max_records, timeout_s):
            if todo and todo[0] == "end":
                raise EndOfSource("end")
            if not todo:
                threading.Event().wait(min(timeout_s, 0.005))
                return ()
            return [ps.Record(todo.pop(0))]

    def answer(record):
        answers.append(record.data)
        got.release()

    def ask(action, argument=None):
        todo.append({"action": action, "argument": argument})
        assert got.acquire(timeout=20)
        return answers[-1]

    shelf, camera = Shelf(), Camera("base")
    channel = commands(Commands("x"), actions={"mine": lambda run, argument: asked.append(argument)}, name="commands")
    pipeline = ps.Pipeline(
        ps.source(camera, name="base") >> ps.store(shelf, name="archive"), channel >> answer, checkpoint_every_s=0.01
    )
    with pipeline.start() as run:
        new = {
            "nodes": [
                {"name": "files", "source": "files", "settings": {"directory": str(tmp_path), "channel": "f"}},
                {"name": "few", "processor": "sample", "settings": {"every": 2}},
            ],
            "edges": [{"before": "files", "after": "few"}, {"before": "few", "after": "archive"}],
        }
        for name in "abcd":
            (tmp_path / name).write_bytes(name.encode())
        assert ask("create", new) == {"action": "create", "ok": True, "result": ["files", "few"]}
        assert "every" in ask("update", {"node": "few", "settings": {"every": 0}})["error"]
        misspelled = ask("update", {"node": "few", "settings": {"evry": 3}})["error"]
        assert "did you mean" in misspelled
        assert "every" in misspelled
        assert ask("delete", "files")["ok"]
        assert [r.data for r in shelf.log if r.channel == "f"][:1] == [b"a"]
        assert ask("pause", "base")["ok"]
        assert ask("resume", "base")["ok"]
        assert ask("stats")["result"]["nodes"][0]["role"] == "source"
        assert ask("mine", 42)["ok"]
        assert asked == [42]
        assert "no action 'explode'; there are mine, create" in ask("explode")["error"]
        assert "'nobody'" in ask("delete", "nobody")["error"]
        for action, argument, meant in (
            ("create", None, "argument=None: must be a pipeline"),
            ("delete", 5, "argument=5: must be the name of a node"),
            ("delete", {"few": 1}, "must be the name of a node"),
            ("update", {}, 'must be {"node": name'),
            ("update", {"node": "few", "settings": [1]}, 'must be {"node": name'),
        ):
            assert meant in ask(action, argument)["error"]
        todo.append("rubbish")
        assert got.acquire(timeout=20)
        assert "not an action" in answers[-1]["error"]
        todo.append("end")
    assert run.report.ok, run.report
