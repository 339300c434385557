"""Whatever a method of a component raises or returns, the run ends with a report that names it, and spares the rest."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import penstock as ps
from penstock.dead_letters import read_dead_letters
from penstock.errors import EndOfSource, RunError, WiringError
from penstock.run.lanes.opening import Opening
from penstock.testing.leaks import no_leaks

QUICK = ps.Retry(times=2, wait_initial_s=0.001, wait_max_s=0.001, jitter_s=0.001)
COUNT = 50


@pytest.fixture(autouse=True)
def _clean(tmp_path, monkeypatch):
    """No thread and no file stays open."""
    monkeypatch.chdir(tmp_path)
    with no_leaks():
        yield


class Source:
    """Give numbers one by one; can do all that a source can."""

    def __init__(self):
        self.next = 0

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        if self.next >= COUNT:
            raise EndOfSource("done")
        self.next += 1
        return [ps.Record(self.next, channel="c", seq=self.next, discontinuity=self.next == 9)]

    def position(self):
        return self.next

    def commit(self, position):
        pass

    def lag(self):
        return 0

    def lost_upstream(self):
        return {}

    def rejected(self):
        return 0

    def close(self):
        pass


class Processor:
    """Pass records on; can do all that a processor can."""

    def open(self):
        pass

    def __call__(self, record):
        return record

    def flush(self):
        return []

    def held(self):
        return []

    def wait_s(self):
        return 0.0

    def expire(self):
        return []

    def close(self):
        pass


class Decoder:
    """Pass records on; can do all that a decoder can."""

    def decode(self, record):
        return [record]

    def flush(self):
        return []

    def reset(self):
        pass

    def held(self):
        return []

    def close(self):
        pass


class Store:
    """Store nothing."""

    def open(self):
        pass

    def write(self, records):
        pass

    def sync(self):
        pass

    def close(self):
        pass


def bad(kind, method, how):
    """Return a component whose method raises if `how` is an exception class, else returns it."""

    def misbehave(self, *_):
        if isinstance(how, type):
            raise how("misbehaving")
        return how

    return type("Bad", (kind,), {method: misbehave})()


def run_with(node):
    """Run this node beside one that behaves; return the report, after a look at the figures on the way."""
    if node.role == "source":
        flow = node >> ps.store(Store(), name="behind")
    elif node.role == "store":
        flow = ps.source(Source(), name="before") >> node
    else:
        flow = ps.source(Source(), name="before") >> node >> ps.store(Store(), name="behind")
    other = ps.source(Source(), name="other") >> ps.store(Store(), name="neighbour")
    run = ps.Pipeline(flow, other, checkpoint_every_s=0.005).start()
    run.stats()
    report = run.wait(30)
    assert report is not None, "the run hangs"
    return report


RAISING = [(Source, name) for name in ("read", "position", "commit", "lag", "lost_upstream", "rejected", "close")]
RAISING += [(Processor, name) for name in ("__call__", "flush", "held", "wait_s", "expire", "close")]
RAISING += [(Decoder, name) for name in ("decode", "flush", "reset", "held", "close")]
RAISING += [(Store, name) for name in ("write", "sync", "close")]
RUBBISH = [
    *[(Source, "read", rubbish) for rubbish in (5, [1, 2], "text", None, iter(()))],
    *[(Source, name, "text") for name in ("lag", "rejected")],
    *[(Processor, name, rubbish) for name in ("flush", "held", "expire") for rubbish in (5, None)],
    *[(Processor, name, [1, 2]) for name in ("flush", "expire")],
    (Processor, "wait_s", "text"),
    *[(Decoder, name, rubbish) for name in ("decode", "flush") for rubbish in (5, None, [1, 2])],
    (Decoder, "held", 5),
]


@pytest.mark.parametrize(
    ("kind", "method", "how"),
    [(kind, method, how) for kind, method in RAISING for how in (ValueError, SystemExit)] + RUBBISH,
    ids=lambda part: getattr(part, "__name__", None) or repr(part)[:20],
)
def test_a_method_that_misbehaves_is_named_and_costs_no_neighbour(kind, method, how):
    """Errors, even an exit, and rubbish end in the report; only who cannot say what it holds ends the whole run."""
    role = kind.__name__.lower()
    node = getattr(ps, role)(bad(kind, method, how), name="bad", retry=QUICK)
    report = run_with(node)
    assert not report.aborted, report
    assert report.balanced, report
    assert not report.ok
    assert report.dead_lettered or any("node 'bad'" in error for error in report.errors)
    if method == "held":
        assert report.checkpoints == 0
    else:
        assert report.account.node("neighbour").stored == COUNT


@pytest.mark.parametrize("kind", [Source, Processor, Store])
@pytest.mark.parametrize("turn", range(5))
def test_an_open_that_fails_at_once_never_hangs_the_start(kind, turn):
    """However quickly one component fails to open, the start ends and names it."""
    node = getattr(ps, kind.__name__.lower())(bad(kind, "open", SystemExit), name="bad")
    with pytest.raises(RunError, match=r"node 'bad' .*cannot open: misbehaving"):
        run_with(node)


def test_one_lane_fails_in_a_step_before_another_has_left_the_last(monkeypatch):
    """A lane that is slow to look at the first step of an opening is not misled by what fails in the second."""

    class Late(threading.Barrier):
        def wait(self, timeout=None):
            turn = super().wait(timeout)
            if threading.current_thread() is threads[0] and not waited:
                waited.append(True)
                for _ in range(1000):
                    if opening.errors:
                        break
                    threading.Event().wait(0.005)
            return turn

    class Lane:
        edges = ()

        def __init__(self, error=None):
            self.error = error

        def open(self):
            pass

        def open_source(self):
            if self.error:
                raise self.error

    waited, lanes = [], [Lane(), Lane(OSError("no camera"))]
    monkeypatch.setattr("penstock.run.lanes.opening.threading.Barrier", Late)
    opening = Opening(lanes)
    threads = [threading.Thread(target=opening.open, args=(lane,), daemon=True) for lane in lanes]

    def begin():
        with pytest.raises(OSError, match="no camera"):
            opening.wait()

    starter = threading.Thread(target=begin, daemon=True)
    for thread in (*threads, starter):
        thread.start()
    for thread in (*threads, starter):
        thread.join(20)
        assert not thread.is_alive()


class Keeps(Processor):
    """Keep everything; fail to give it back."""

    def __init__(self):
        self.kept = []

    def __call__(self, record):
        self.kept.append(record)

    def held(self):
        return self.kept

    def flush(self):
        self.kept = []
        raise ValueError("the index is broken")

    wait_s = expire = None


class KeepingDecoder(Keeps):
    """The same as a decoder."""

    def decode(self, record):
        self(record)
        return []

    def reset(self):
        pass


@pytest.mark.parametrize(("role", "kind"), [("processor", Keeps), ("decoder", KeepingDecoder)])
def test_what_is_inside_when_a_flush_fails_goes_to_the_dead_letters(role, kind):
    """Records that a component holds, and says so, are not lost with its flush: each is kept, with the error."""
    component = kind if role == "decoder" else kind()  # each channel has a decoder of its own
    flow = ps.source(range(7)) >> getattr(ps, role)(component, name="keeps") >> ps.store("null")
    report = ps.Pipeline(flow).run()
    assert report.balanced, report
    assert (report.dead_lettered, report.account.node("keeps").buffered) == (7, 0)
    letters = list(read_dead_letters(Path(report.dead_letters)))
    assert [letter.parent.data for letter in letters] == list(range(7))
    assert letters[0].metadata["message"] == "the index is broken"
    assert any("node 'keeps'" in error and "flush() failed" in error for error in report.errors)


def test_an_iterator_is_a_list_of_records():
    """A function that returns a generator emits what that gives; one that raises on the way costs its record only."""

    def twice(record):
        return (record.replace(data=number / (record.data - 3)) for number in (1, 2))

    report = ps.Pipeline(ps.source(range(6)) >> ps.processor(twice) >> ps.store("null", name="null")).run()
    assert report.balanced, report
    assert (report.stored, report.dead_lettered) == (10, 1)


def test_an_async_function_is_refused_before_anything_opens():
    """What would give coroutines for data is a WiringError that names the node."""

    async def fetch(record):
        return record

    class Fetch:
        async def __call__(self, record):
            return record

    for processor in (fetch, Fetch()):
        with pytest.raises(WiringError, match=r"node 'fetch' .* is async"):
            ps.Pipeline(ps.source([1]) >> ps.processor(processor, name="fetch")).check()


def test_what_a_source_lost_is_counted_over_all_its_openings():
    """Sources count their losses from `open` on; the account has the sum, also when another takes the place of one."""

    class Lossy(Source):
        def open(self):
            self.lost = self.refused = 0

        def read(self, max_records, timeout_s):
            records = super().read(max_records, timeout_s)
            self.lost += 1
            self.refused += 2
            if self.next in (10, 30):
                raise ConnectionError("gone")
            return records

        def lost_upstream(self):
            return {"c": self.lost}

        def rejected(self):
            return self.refused

    source = ps.source(Lossy(), name="lossy", retry=ps.Retry(times=9, wait_initial_s=0.001, jitter_s=0.001))
    report = ps.Pipeline(source >> ps.store(Store())).run()
    node = report.account.node("lossy")
    assert (node.received, node.lost_upstream, node.rejected) == (COUNT - 2, COUNT, 2 * COUNT)
    assert node.channels["c"]["lost_upstream"] == COUNT


def test_a_component_that_would_wait_for_itself_is_told():
    """`stop`, `remove` and `replace` in a thread of the run raise instead of waiting for ever; `stop_soon` works."""
    refused, ready, runs = [], threading.Event(), []

    def meddle(record):
        ready.wait(20)
        [run] = runs
        for call in (run.stop, lambda: run.remove("before"), lambda: run.replace("meddle", ps.processor(meddle))):
            try:
                call()
            except RunError as error:
                refused.append(str(error))
        run.stop_soon()
        return record

    flow = ps.source(iter(int, 1), name="before") >> ps.edge(capacity=1) >> ps.processor(meddle) >> ps.store("null")
    runs.append(ps.Pipeline(flow).start())
    ready.set()
    report = runs[0].wait(30)
    assert report is not None
    assert report.ok, report
    assert all("would wait for itself" in message for message in refused)
    assert len(refused) == 3 * report.account.node("meddle").records_in


def test_a_watcher_that_leaves_the_process_stops_no_run():
    """A hook that raises SystemExit is logged; the run ends as if it were not there."""

    class Watcher:
        @ps.hookimpl
        def penstock_run_finished(self, name):
            raise SystemExit(1)

        @ps.hookimpl
        def penstock_checkpoint(self, name):
            raise SystemExit(1)

    plugins = ps.Plugins.discover()
    plugins.manager.register(Watcher())
    run = ps.Pipeline(ps.source(range(10)) >> ps.store("null"), checkpoint_every_s=0.01).start(plugins=plugins)
    report = run.wait(30)
    assert report is not None
    assert report.ok, report


def test_figures_while_channels_come():
    """`stats` may be asked at any time, also while every list of records brings channels that nobody knew."""
    records = (ps.Record(n, channel=f"c{n}") for n in range(30_000))
    source = ps.source(records, name="s")
    viewer = source >> ps.edge(capacity=5, when_full="drop_oldest") >> ps.processor(lambda record: None, name="v")
    with ps.Pipeline(source >> ps.store("null", name="a"), viewer).start() as run:
        while not run.finished:
            account = run.stats()
            assert account.node("s").received <= 30_000
    assert run.report.ok, run.report
