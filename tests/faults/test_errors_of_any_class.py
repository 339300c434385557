"""Whatever class of error comes out of whichever call of a component: it costs its own record, and no run hangs."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from tests.faults import any_parts

import penstock as ps
from penstock.dead_letters import read_dead_letters
from penstock.errors import RunError, StoreError
from penstock.handler.errors import DataFailedError
from penstock.testing import no_leaks
from penstock.testing.any_errors import ANY_ERROR, Fails, UnprintableError

ONE_RECORD = [
    ("processor", "__call__"),
    ("processor", "iterator"),
    ("processor", "list"),
    ("decoder", "decode"),
    ("decoder", "iterator"),
    ("store", "write"),
]
"""The calls that are made for a record."""
NO_RECORD = [
    *(("source", call) for call in ("read", "position", "commit", "lag", "lost_upstream", "rejected", "close")),
    *(("processor", call) for call in ("flush", "expire", "wait_s", "close")),
    ("decoder", "flush"),
    ("decoder", "close"),
    ("store", "sync"),
    ("store", "close"),
]
"""The calls that do not concern a single record."""


@pytest.fixture(autouse=True)
def _clean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with no_leaks():
        yield


def run_with(role, call, kind, **options):
    """Run a pipeline in which one component fails; return its report, which comes in time."""
    parts = {name: getattr(any_parts, name.capitalize())() for name in ("source", "decoder", "processor", "store")}
    parts[role].call, parts[role].kind = call, kind
    once = ps.Retry(times=1)
    flow = ps.source(parts["source"], name="source", retry=once, **(options if role == "source" else {}))
    for name in ("decoder", "processor", "store"):
        node = getattr(ps, name)(parts[name], name=name, retry=once, **(options if role == name else {}))
        flow = flow >> node
    return report_of(ps.Pipeline(flow, checkpoint_every_s=0.01))


def report_of(pipeline):
    run = pipeline.start()
    report = run.wait(60)
    if report is None:
        run.abort()
        pytest.fail("the run hangs")
    assert report.balanced, report
    assert report.in_flight == 0
    str(report), report.to_json()
    return report


@pytest.mark.parametrize("kind", ANY_ERROR)
@pytest.mark.parametrize(("role", "call"), ONE_RECORD)
def test_an_error_costs_its_own_record(role, call, kind):
    """An error of any class for one record: that one is dead-lettered, and all others are stored."""
    report = run_with(role, call, kind)
    assert (report.dead_lettered, report.stored, report.lost) == (1, any_parts.COUNT - 1, 0), report
    assert not report.aborted
    assert report.exit_code == 1
    assert type(ANY_ERROR[kind]()).__name__ in report.account.node(role).last_error


@pytest.mark.parametrize("kind", ANY_ERROR)
@pytest.mark.parametrize(("role", "call"), NO_RECORD)
def test_an_error_outside_of_records_costs_none(role, call, kind):
    """An error of any class in such a call is reported with its node, and every record is stored."""
    report = run_with(role, call, kind)
    assert (report.stored, report.dead_lettered, report.lost) == (any_parts.COUNT, 0, 0), report
    assert not report.aborted
    if (role, call, kind) != ("source", "read", "EndOfSource"):  # there it is the end
        assert not report.ok
        assert any(f"node {role!r}" in error for error in report.errors), report.errors


@pytest.mark.parametrize("kind", ANY_ERROR)
@pytest.mark.parametrize("role", ["processor", "decoder"])
def test_one_that_cannot_say_what_it_holds_ends_the_run(role, kind):
    """An error of any class in `held` ends the run, with all that it had read dealt with."""
    report = run_with(role, "held", kind)
    assert report.stored == report.received
    assert any("held() failed" in error for error in report.errors)


@pytest.mark.parametrize("kind", ANY_ERROR)
@pytest.mark.parametrize("role", ["source", "processor", "store"])
def test_an_open_that_raises_is_a_run_error(role, kind):
    """An error of any class in `open` is a RunError that names the node, and nothing stays open."""
    with pytest.raises(RunError, match=f"node '{role}'"):
        run_with(role, "open", kind)


def test_an_error_names_the_coordinates_and_the_remedy():
    """An error of a processor is reported with coordinates, its class and, where an array was shared, the remedy."""

    def work(record):
        record.data += 1
        return record

    frames = ps.source([ps.Record(np.zeros(3), channel="cam", seq=7, coords=ps.DataCoordinates(z=2, time=5))])
    report = report_of(ps.Pipeline(frames >> ps.processor(work, name="work"), frames >> ps.store("null")))
    said = report.account.node("work").last_error
    assert said.startswith("ValueError: ")
    assert "read-only" in said
    assert "record 7 of channel 'cam' at z=2, time=5" in said
    assert "in_place = True" in said
    assert "copy()" in said
    assert any(said in problem for problem in report.problems)
    [letter] = read_dead_letters(Path(report.dead_letters))
    assert "in_place = True" in letter.metadata["message"]

    def other(record):
        raise ValueError("this is a read-only string, and no array")

    report = report_of(ps.Pipeline(ps.source(["text"]) >> ps.processor(other, name="other") >> ps.store("null")))
    assert "in_place" not in report.account.node("other").last_error


@pytest.mark.parametrize("kind", ANY_ERROR)
def test_a_call_that_is_tried_again_keeps_its_error(kind):
    """The error of the last try is what is kept, whatever its class."""
    fails, times = any_parts.Processor(call="__call__", kind=kind), []

    def process(record):
        times.append(record.data)
        return fails(record)

    retry = ps.Retry(times=3, wait_initial_s=0.001, jitter_s=0.001, on=("BaseException",))
    node = ps.processor(process, name="process", retry=retry)
    report = report_of(ps.Pipeline(ps.source(range(any_parts.COUNT)) >> node >> ps.store("memory")))
    assert (report.dead_lettered, report.stored) == (1, any_parts.COUNT - 1)
    assert times.count(any_parts.BAD) == 3
    [letter] = read_dead_letters(Path(report.dead_letters))
    assert letter.metadata["error"].endswith(type(ANY_ERROR[kind]()).__name__)


@pytest.mark.parametrize("kind", [kind for kind in ANY_ERROR if kind != "StopIteration"])
@pytest.mark.parametrize("items", ["generator", "sequence"])
def test_what_an_iterable_gave_before_it_raised_is_worked_at(items, kind):
    """An iterable that raises an error of any class: what it had given is stored, and the source has failed."""

    def generate():
        yield from range(5)
        raise ANY_ERROR[kind]()

    class Items(list):
        def __iter__(self):
            return generate()

    report = report_of(
        ps.Pipeline(ps.source(generate() if items == "generator" else Items(range(9))) >> ps.store("memory"))
    )
    assert (report.received, report.stored) == (5, 5)
    assert len(report.errors) == 1
    assert not report.ok


def test_a_sequence_that_ends_before_its_length_is_an_error():
    """An IndexError within `__getitem__` ends the iteration of a sequence: the items that did not come are missed."""

    class Frames(list):
        def __iter__(self):
            yield from range(5)

    report = report_of(ps.Pipeline(ps.source(Frames(range(9))) >> ps.store("memory")))
    assert report.stored == 5
    assert "ended after 5 of 9 items" in report.errors[0]


class Reads:
    """A source whose `read` returns this, once."""

    def __init__(self, given):
        self.given = [given]

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        if not self.given:
            raise ps.errors.EndOfSource("done")
        return self.given.pop()

    def close(self):
        pass


@pytest.mark.parametrize("method", ["__len__", "__iter__", "__repr__"])
@pytest.mark.parametrize("kind", ANY_ERROR)
def test_a_sequence_of_records_that_raises_fails_its_source_alone(method, kind):
    """What `read` returns may raise anything when it is looked at: the source fails, and its neighbour goes on."""

    class Hostile(list):
        pass

    def raises(self):
        raise ANY_ERROR[kind]()

    setattr(Hostile, method, raises)
    retry = ps.Retry(times=1)
    hostile = ps.source(Reads(Hostile([ps.Record(0)] if method != "__repr__" else [None])), name="hostile", retry=retry)
    store = ps.store("memory")
    report = report_of(ps.Pipeline(hostile >> store, ps.source(range(5)) >> store))
    assert (report.stored, report.aborted) == (5, False)
    assert any("node 'hostile'" in error for error in report.errors)


def test_a_sequence_that_does_not_have_what_it_says_is_refused():
    """Records that a list says it has and does not give would be missed by nobody: the source fails."""

    class Short(list):
        def __len__(self):
            return 7

    report = report_of(
        ps.Pipeline(ps.source(Reads(Short([ps.Record(0)])), retry=ps.Retry(times=1)) >> ps.store("memory"))
    )
    assert "its length is 7, but it yields 1 records" in report.errors[0]


def test_a_store_error_that_names_others_says_nothing_of_these():
    """A StoreError that names records which were not in its list: none counts as written, and each is tried again."""
    written = []

    class Confused(any_parts.Store):
        def write(self, records):
            if len(records) > 1:
                raise StoreError("confused", failed=[(ps.Record("foreign", seq=99), ValueError("foreign"))])
            written.extend(records)

    retry = ps.Retry(times=1)
    report = report_of(ps.Pipeline(ps.source([*range(9)]) >> ps.edge(capacity=9) >> ps.store(Confused(), retry=retry)))
    assert report.stored == 9
    assert sorted(record.data for record in written) == list(range(9))


def test_a_store_may_name_copies():
    """A StoreError that names a copy of a record means that record: its neighbours are written once."""
    written = []

    class Copies(any_parts.Store):
        def write(self, records):
            bad = [record.replace(metadata={}) for record in records if record.data == any_parts.BAD]
            written.extend(record.data for record in records if record.data != any_parts.BAD)
            records.clear()  # its list is its own
            if bad:
                raise StoreError("bad", failed=[(record, ValueError("bad")) for record in bad])

    retry = ps.Retry(times=1)
    report = report_of(ps.Pipeline(ps.source([*range(9)]) >> ps.edge(capacity=9) >> ps.store(Copies(), retry=retry)))
    assert (report.stored, report.dead_lettered) == (8, 1)
    assert sorted(written) == [0, 1, 2, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("failed", [None, 7, [1, 2], [(ps.Record(1), "no error")]])
def test_a_store_error_with_a_broken_list_says_nothing(failed):
    """A StoreError whose `failed` is not a list of records and errors counts as one that names none."""

    class Broken(any_parts.Store):
        def write(self, records):
            if any(record.data == any_parts.BAD for record in records):
                error = StoreError("broken")
                error.failed = failed
                raise error

    report = report_of(ps.Pipeline(ps.source(range(9)) >> ps.store(Broken(), retry=ps.Retry(times=1))))
    assert (report.stored, report.dead_lettered) == (8, 1)


def test_figures_of_a_source_that_are_no_numbers_are_reported():
    """Counts of a source that cannot be added are reported, and there is a report."""

    class Odd(any_parts.Source):
        def lost_upstream(self):
            return {"camera": "many"}

        def lag(self):
            raise UnprintableError

    report = report_of(ps.Pipeline(ps.source(Odd()) >> ps.store("memory")))
    assert report.stored == any_parts.COUNT
    assert any("lost_upstream() failed" in error for error in report.errors)


@pytest.mark.parametrize("wait_s", [float("inf"), float("nan"), 1e300, -1.0, "soon"])
def test_any_answer_of_wait_s_is_lived_with(wait_s):
    """A processor's `wait_s` may say anything: the run goes on."""

    class Waits(any_parts.Processor):
        def wait_s(self):
            return wait_s

    flow = ps.source(range(9)) >> ps.edge(capacity=3) >> ps.processor(Waits()) >> ps.store("memory")
    report = report_of(ps.Pipeline(flow))
    assert report.stored == 9
    assert not report.aborted


def test_an_abort_looks_between_the_records_of_a_list():
    """After an abort no further record of a list is worked at, and the account balances."""
    begun, go_on, worked = threading.Event(), threading.Event(), []

    def slow(record):
        worked.append(record.data)
        if record.data == 500:
            begun.set()
            go_on.wait(30)
        return record

    run = ps.Pipeline(ps.source([*range(5000)]) >> ps.processor(slow) >> ps.store("null")).start()
    assert begun.wait(30)
    run.abort()
    go_on.set()
    report = run.wait(30)
    assert worked[-1] == 500
    assert report.balanced
    assert report.aborted
    assert not [error for error in report.errors if "blocking" in error]


@pytest.mark.parametrize("call", ["read", "close", "flush"])
def test_an_abort_names_what_blocks_and_for_how_long(call, monkeypatch):
    """A call that does not return is named with the time since it was made."""
    monkeypatch.setattr("penstock.run.run.ABORT_GRACE_S", 1.0)
    begun, go_on = threading.Event(), threading.Event()

    def block(*_):
        begun.set()
        go_on.wait(60)
        return ()

    source, processor = any_parts.Source(), any_parts.Processor()
    setattr(source if call == "read" else processor, call, block)

    flow = ps.source(Given(source), name="source") >> ps.processor(Given(processor), name="worker") >> ps.store("null")
    run = ps.Pipeline(flow).start()
    assert begun.wait(30)
    run.abort()
    report = run.wait(30)
    go_on.set()
    for lane in run._plan.lanes:
        lane.thread.join()
    [said] = [error for error in report.errors if "return" in error]
    assert f"node '{'source' if call == 'read' else 'worker'}' has been blocking for 1 s" in said


class Given:
    """A proxy for a component."""

    def __init__(self, inner):
        self._inner = inner

    def __call__(self, record):
        return self._inner(record)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._inner, name)


@pytest.mark.parametrize("kind", ANY_ERROR)
@pytest.mark.parametrize("role", ["processor", "store"])
@pytest.mark.parametrize("when_exists", ["error", "replace"])
def test_a_data_handler_survives_errors_of_any_class(role, kind, when_exists):
    """An error of any class in a DataHandler costs its own data: who waits for them is told, all others are there."""
    parts = {"processor": any_parts.Processor(), "store": HandlerStore()}
    parts[role].call, parts[role].kind = ("__call__" if role == "processor" else "write"), kind
    with ps.DataHandler(
        ps.store(parts["store"], retry=ps.Retry(times=1)), process_function=parts["processor"], when_exists=when_exists
    ) as handler:
        callbacks = []
        handler.subscribe("stored", Fails(kind))
        handler.subscribe("stored", lambda coords: callbacks.append(coords["n"]))
        for number in range(any_parts.COUNT):
            assert handler.put({"n": number}, number, timeout_s=30)
        report = handler.finish(30)
        for number in range(any_parts.COUNT):
            if number != any_parts.BAD:
                assert handler.get({"n": number})[0] == number
        with pytest.raises(DataFailedError, match=type(ANY_ERROR[kind]()).__name__):
            handler.get({"n": any_parts.BAD})
    assert (report.stored, report.dead_lettered) == (any_parts.COUNT - 1, 1), report
    assert report.balanced
    assert not report.aborted
    assert sorted(callbacks) == [number for number in range(any_parts.COUNT) if number != any_parts.BAD]


class HandlerStore(any_parts.Store):
    """A store that can be read."""

    def open(self):
        self.held = {}

    def write(self, records):
        super().write(records)
        self.held.update((self.key_of(record), record) for record in records)

    def key_of(self, record):
        return str(record.coords)

    def keys(self, **coords):
        return iter(self.held)

    def get(self, key):
        return self.held[key]

    def __contains__(self, key):
        return key in self.held

    def __len__(self):
        return len(self.held)
