"""A user's object is used directly, copied from its settings, or rejected; it is never shared."""

from __future__ import annotations

import dataclasses
import functools
import threading

import attrs
import pytest

import penstock as ps
from penstock.builtin.memory import MemoryStore
from penstock.errors import RunError, WiringError
from penstock.testing import FakeSource, FaultySource, FaultyStore, SlowStore


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def of_channels(*channels, count=6):
    return [ps.Record(n, channel=channel, seq=n) for n in range(count) for channel in channels]


class Counts:
    """A decoder that reports how many records of any channel it has seen."""

    def __init__(self):
        self.seen = 0

    def decode(self, record):
        self.seen += 1
        return [record.replace(data=self.seen)]

    def flush(self):
        return ()

    def reset(self):
        self.seen = 0


@attrs.define
class AttrsCounts:
    seen: int = 0
    decode, flush, reset = Counts.decode, Counts.flush, Counts.reset


@dataclasses.dataclass
class DataCounts:
    seen: int = 0
    decode, flush, reset = Counts.decode, Counts.flush, Counts.reset


@dataclasses.dataclass
class ListCounts:
    """Keeps its state in a list that is an init field, as people write it."""

    kept: list = dataclasses.field(default_factory=list)

    def decode(self, record):
        self.kept.append(record)
        return [record.replace(data=len(self.kept))]

    flush, reset = Counts.flush, Counts.reset


class NoSettings:
    def decode(self, record):
        self.seen = getattr(self, "seen", 0) + 1
        return [record.replace(data=self.seen)]

    flush, reset = Counts.flush, Counts.reset


@pytest.mark.parametrize(
    "given",
    [
        Counts,
        AttrsCounts,
        DataCounts,
        AttrsCounts(),
        DataCounts(),
        ListCounts(),
        NoSettings(),
        lambda: Counts(),
        functools.partial(AttrsCounts, 0),
        functools.partial(DataCounts, seen=0),
    ],
    ids=lambda given: type(given).__name__ if not isinstance(given, type) else f"class {given.__name__}",
)
def test_each_channel_has_a_decoder_of_its_own(given):
    """Two cameras never share a decoder, whether its object, its class or a factory was given."""
    store = MemoryStore()
    report = ps.Pipeline(ps.source(of_channels("a", "b")) >> ps.decoder(given, name="d") >> ps.store(store)).run()
    assert report.ok, report
    assert [store.get(f"{channel}/{n}").data for channel in "ab" for n in range(6)] == [1, 2, 3, 4, 5, 6] * 2


def test_a_decoder_that_was_given_keeps_its_settings_and_no_state():
    """Copies have the settings of the object; the object itself is not used, with one channel or with two."""
    for mine in (AttrsCounts(10), DataCounts(10)):
        store = MemoryStore()
        assert ps.Pipeline(ps.source(of_channels("a")) >> ps.decoder(mine) >> ps.store(store)).run().ok
        assert [store.get(f"a/{n}").data for n in range(6)] == [11, 12, 13, 14, 15, 16]
        assert mine.seen == 10


def test_a_class_takes_settings():
    """The settings beside a class are its arguments; a wrong one is an error before anything opens."""
    store = MemoryStore()
    flow = ps.source(of_channels("a", "b")) >> ps.decoder(DataCounts, seen=5) >> ps.store(store)
    assert ps.Pipeline(flow).run().ok
    assert store.get("b/0").data == 6
    with pytest.raises(ps.errors.ConfigError, match=r"node 'DataCounts'.*sen"):
        ps.Pipeline(ps.source([1]) >> ps.decoder(DataCounts, sen=5) >> ps.store("null")).check()


def locked():
    @attrs.define
    class Locked(AttrsCounts):
        lock: object = attrs.field(factory=threading.Lock)

    return Locked()


@pytest.mark.parametrize(
    ("given", "reason"), [(Counts(), "neither an attrs class nor a dataclass"), (locked(), "'lock'")]
)
def test_a_decoder_that_cannot_be_copied_is_refused_before_anything_opens(given, reason):
    """An object with unknown or uncopyable settings is rejected with its node and the remedy."""
    with pytest.raises(WiringError, match=rf"node 'd' .*{reason}.*pass the class, or a function that makes one"):
        ps.Pipeline(ps.source([1]) >> ps.decoder(given, name="d") >> ps.store("null")).check()


def test_a_factory_that_gives_one_object_again_is_refused():
    """An object that a factory returns twice is not shared: the second channel fails, and the first continues."""
    one = Counts()
    store = MemoryStore()
    flow = ps.source(of_channels("a", "b")) >> ps.decoder(lambda: one, name="d") >> ps.store(store)
    report = ps.Pipeline(flow).run()
    assert (report.stored, report.dead_lettered) == (6, 6)
    assert one.seen == 6


def test_a_factory_is_called_once_for_each():
    """Every created component works."""
    made = []

    def make():
        made.append(Counts())
        return made[-1]

    assert ps.Pipeline(ps.source(of_channels("a", "b", "c")) >> ps.decoder(make) >> ps.store("null")).run().ok
    assert [each.seen for each in made] == [6, 6, 6]


class Threads:
    """A processor that keeps its state in itself, and fails when two threads are in it."""

    def __init__(self):
        self.busy = threading.Lock()
        self.taken = 0

    def __call__(self, record):
        if not self.busy.acquire(blocking=False):
            raise RuntimeError("two threads are in here")
        self.taken += 1
        self.busy.release()
        return record

    def method(self, record):
        return self(record)


@attrs.define
class AttrsThreads:
    made: list = attrs.field(factory=list, init=False)
    taken: int = attrs.field(default=0, init=False)
    __call__ = lambda self, record: setattr(self, "taken", self.taken + 1) or record.replace(data=id(self))  # noqa: E731


@dataclasses.dataclass
class DataThreads:
    seen: list = dataclasses.field(default_factory=list)

    def __call__(self, record):
        self.seen.append(record)
        return record.replace(data=id(self))

    def method(self, record):
        return self(record)


@pytest.mark.parametrize(
    "given", [AttrsThreads(), DataThreads(), DataThreads, lambda: DataThreads(), DataThreads().method]
)
def test_each_worker_has_a_processor_of_its_own(given):
    """Three workers are three objects with the user's settings, none of them the user's object."""
    store = MemoryStore()
    flow = ps.source(of_channels("a", count=3000)) >> ps.processor(given, workers=3) >> ps.store(store)
    assert ps.Pipeline(flow).run().ok
    objects = {store.get(key).data for key in list(store.keys())}
    assert len(objects) == 3
    assert id(given) not in objects


@pytest.mark.parametrize("given", [Threads(), Threads().method, functools.partial(Threads())])
def test_a_processor_that_cannot_be_copied_is_refused_for_workers(given):
    """An object with a state is not shared by three threads; with one thread it is used directly."""
    with pytest.raises(
        WiringError, match=r"node 'p' .*workers=3.*Threads.*pass the class, .*or a function that calls it"
    ):
        ps.Pipeline(ps.source([1]) >> ps.processor(given, workers=3, name="p") >> ps.store("null")).check()
    assert ps.Pipeline(ps.source(range(5)) >> ps.processor(given) >> ps.store("null")).run().ok


def test_functions_are_shared_by_workers():
    """Functions, closures, partials of them and C functions are code: several threads call the same one."""
    seen = []

    def note(record, gain=1):
        seen.append(record.data)
        return record

    for function in (note, lambda record: note(record), functools.partial(note, gain=2), seen.append):
        seen.clear()
        report = ps.Pipeline(ps.source(range(300)) >> ps.processor(function, workers=3) >> ps.store("null")).run()
        assert report.ok, report
        assert len(seen) == 300


def test_a_setting_with_a_life_of_its_own_is_not_copied():
    """A store among the settings of a worker is rejected: records in a copy of it would be invisible."""

    @attrs.define
    class Tees:
        store: MemoryStore

        def __call__(self, record):
            self.store.write([record])

    with pytest.raises(WiringError, match=r"'store' has open\(\) and close\(\): a copy of it would hide yours"):
        ps.Pipeline(ps.source([1]) >> ps.processor(Tees(MemoryStore()), workers=2) >> ps.store("null")).check()


def test_a_processor_that_works_alone_is_the_users():
    """After a run with one worker, the given object has the state of the run."""
    for mine in (DataThreads(), AttrsThreads(), Threads()):
        assert ps.Pipeline(ps.source(range(7)) >> ps.processor(mine) >> ps.store("null")).run().ok
        assert len(getattr(mine, "seen", range(getattr(mine, "taken", 0)))) == 7


def test_stores_and_sources_are_the_users():
    """After a run, the given store holds the records, and the source knows the committed position."""
    store, source = MemoryStore(), FakeSource(records=of_channels("a"))
    assert ps.Pipeline(ps.source(source) >> ps.store(store)).run().ok
    assert len(store) == 6
    assert source.commits[-1] == 6


def test_one_pipeline_twice_is_one_store_twice():
    """A pipeline that runs again continues in its given store, and reads its iterable again."""
    store = MemoryStore(when_exists="replace")
    pipeline = ps.Pipeline(ps.source([1, 2, 3]) >> ps.store(store))
    assert pipeline.run().ok
    assert pipeline.run().ok
    assert len(store) == 3


@pytest.mark.parametrize("role", ["source", "store", "processor", "iterator"])
def test_one_object_in_two_nodes_is_refused(role):
    """An object with a state cannot work in two places of one pipeline; both nodes are named."""
    end = ps.store("null")
    flows = {
        "source": [ps.source(source, name=name) >> end for source in [FakeSource()] for name in "ab"],
        "store": [ps.source([1]) >> ps.store(store, name=name) for store in [MemoryStore()] for name in "ab"],
        "processor": [ps.source([1]) >> ps.processor(one, name=name) >> end for one in [Threads()] for name in "ab"],
        "iterator": [ps.source(items, name=name) >> end for items in [iter([1])] for name in "ab"],
    }
    with pytest.raises(WiringError, match="nodes 'a' and 'b' have the same"):
        ps.Pipeline(*flows[role]).check()


def test_one_list_or_function_in_two_nodes_is_fine():
    """A stateless object may be used in several nodes."""
    items = [1, 2]

    def same(record):
        return record

    flows = [ps.source(items, name=f"s{n}") >> ps.processor(same, name=f"p{n}") >> ps.store("null") for n in range(2)]
    report = ps.Pipeline(*flows).run()
    assert (report.ok, report.stored) == (True, 4)


def test_two_runs_at_once_do_not_share_an_object():
    """A store in use by one run is rejected by another, before anything opens; later that may use it."""
    store, source = MemoryStore(when_exists="replace"), FakeSource(more=True)
    second = ps.Pipeline(ps.source([1]) >> ps.store(store))
    with ps.Pipeline(ps.source(source) >> ps.store(store), name="first").start():  # noqa: SIM117 - the run is the subject
        with pytest.raises(WiringError, match=r"MemoryStore works in node 'MemoryStore' of run 'first' now"):
            second.run()
    assert ps.Pipeline(ps.source([1]) >> ps.store(store)).run().ok
    assert len(store) == 1


def test_a_live_change_keeps_to_the_rule():
    """An added or replacing object may not be in use already; a removed one may."""
    first, second, source = MemoryStore(), MemoryStore(), FakeSource(more=True)
    camera = ps.source(source, name="camera")
    with ps.Pipeline(camera >> ps.edge(capacity=4) >> ps.store(first, name="store")).start() as run:
        with pytest.raises(WiringError, match="have the same MemoryStore"):
            run.add(run.node("camera") >> ps.store(first, name="again"))
        with pytest.raises(WiringError, match="works in node 'store'"):
            run.replace("store", ps.store(first))
        source.put(ps.Record(0, channel="a"))
        run.replace("store", ps.store(second))
        source.put(ps.Record(1, channel="a", seq=1))
        run.add(run.node("camera") >> ps.store(first, name="again"))
        run.remove("again")
        run.add(run.node("camera") >> ps.store(first, name="again"))
        source.put(ps.Record(2, channel="a", seq=2))
        source.end()
    assert run.report.ok, run.report
    assert {*first.keys(), *second.keys()} == {"a/0", "a/1", "a/2"}
    assert "a/2" in first
    assert {"a/1", "a/2"} <= set(second.keys())


def test_what_could_not_start_is_free_again():
    """If a run cannot be opened, its objects can be used by the next one."""

    class Refuses(MemoryStore):
        def open(self):
            raise OSError("locked")

    store = MemoryStore()
    flow = ps.source([1]) >> (lambda record: record)
    for _ in range(2):
        with pytest.raises(RunError, match="locked"):
            ps.Pipeline(flow >> ps.store(store), flow >> ps.store(Refuses(), name="r")).run()
    assert ps.Pipeline(flow >> ps.store(store)).run().ok
    assert len(store) == 1


def test_a_handler_fills_the_store_that_it_was_given():
    """A DataHandler uses the very store; a processor object with workers is copied there, too."""
    store = MemoryStore()
    with ps.DataHandler(store, ps.processor(DataThreads(), workers=2)) as handler:
        for number in range(20):
            handler.put({"t": number}, number)
    assert len(store) == 20


def test_faults_work_inside_a_pipeline():
    """The fakes and faults of penstock.testing fail on demand in a run, and report what they have seen."""
    source = FakeSource(records=of_channels("a", count=40))
    faulty_source = FaultySource(source=source, fail_on=[1])
    kept = MemoryStore()
    store = FaultyStore(store=kept, fail_on=[1], fail_sync_on=[1], refuse=lambda record: record.data == 7)
    retry = ps.Retry(times=5, wait_initial_s=0.001, jitter_s=0.0)
    flow = ps.source(faulty_source, retry=retry) >> ps.store(store, retry=retry)
    report = ps.Pipeline(flow).run()
    assert (report.stored, report.dead_lettered, len(kept)) == (39, 1, 39)
    assert store.writes >= 2
    assert store.syncs >= 2
    assert faulty_source.reads >= 2


def test_a_slow_store_is_led_from_outside_the_run():
    """SlowStore blocks a run until the test allows it."""
    kept = MemoryStore()
    slow = SlowStore(store=kept)
    with ps.Pipeline(ps.source(of_channels("a")) >> ps.store(slow)).start() as run:
        assert slow.entered.wait(10)
        assert len(kept) == 0
        slow.allow()
    assert run.report.ok
    assert len(kept) == 6


def test_a_dataclass_is_written_to_a_file_with_its_settings():
    """A dataclass of a module is named like an attrs class: by its path, with the fields that differ from defaults."""
    from penstock.compose.address import address_of

    assert address_of(DataCounts(3)) == (f"{__name__}:DataCounts", {"seen": 3})
    assert address_of(DataCounts()) == (f"{__name__}:DataCounts", {})
    assert address_of(AttrsCounts) == (f"{__name__}:AttrsCounts", {})
    assert address_of(DataThreads().method) is None
    assert address_of(Counts()) is None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (lambda record: record, "it is a lambda"),
        (DataThreads().method, "it is a method of an object"),
        (Threads(), "neither an attrs class nor a dataclass"),
        (locked, None),
        (functools.partial(lambda record, gain: record, gain=2), "it is a lambda"),
    ],
)
def test_what_no_file_can_name_is_refused_with_the_true_reason(given, reason):
    """The error of an export names the node, why no file can name it, and an alternative that works."""
    pipeline = ps.Pipeline(ps.source("files", path="x") >> ps.processor(given, name="p") >> ps.store("null"))
    if reason is None:
        assert "test_whose_object:locked" in pipeline.to_toml()
        return
    with pytest.raises(WiringError, match=rf"node 'p'.*cannot be written.*{reason}.*'module:"):
        pipeline.to_toml()


def test_pipelines_of_what_no_file_can_name_are_compared_by_their_objects():
    """Two pipelines with a lambda are equal if the lambda is the same object and all else is equal; nothing raises."""

    def pipeline(function, **options):
        return ps.Pipeline(
            ps.source("files", path="x") >> ps.processor(function, name="f", **options) >> ps.store("null")
        )

    same = lambda record: record  # noqa: E731 - a lambda is the subject
    assert pipeline(same) == pipeline(same)
    assert pipeline(same) != pipeline(lambda record: record)
    assert pipeline(same) != pipeline(same, workers=2)
    assert pipeline(same) != pipeline("penstock.builtin.decode:nothing")


@pytest.mark.parametrize("role", ["storage", "process_function"])
def test_a_handler_refuses_a_process_before_anything_opens(role):
    """A store or processor of a handler with place='process' is a ConfigError that names it and the way."""
    given = {"storage": ps.store("null"), "process_function": None}
    given[role] = (ps.store if role == "storage" else ps.processor)("penstock.builtin:x", place="process")
    with pytest.raises(ps.errors.ConfigError, match=r"'x': place='process'.*use a Pipeline"):
        ps.DataHandler(**given)


def test_two_handlers_do_not_share_a_store():
    """A store in use by one handler is rejected by another, which leaves it open; later that may use it."""
    store = MemoryStore()
    with ps.DataHandler(store, name="first") as first:
        with pytest.raises(WiringError, match="MemoryStore works in node 'MemoryStore' of run 'first' now"):
            ps.DataHandler(store)
        first.put({"t": 1}, 1)
    with ps.DataHandler(store) as second:
        second.put({"t": 2}, 2)
    assert len(store) == 2
