"""The built-in components: gathering, aligning, choosing, files that can be reread, dead letters."""

from __future__ import annotations

import json

import numpy as np
import pytest

import penstock as ps
from penstock.builtin.choose import Filter, Rate, Sample, Split
from penstock.builtin.files import FilesSource
from penstock.builtin.gather import Align, Batch
from penstock.builtin.letters import DeadLetterSource, LogStore
from penstock.builtin.memory import MemoryStore
from penstock.errors import ConfigError, EndOfSource, ObjectNotFoundError, SourceError, StoreError
from penstock.recordlog import read_log


def record(data, channel="", at=0.0, **fields):
    return ps.Record(data, channel=channel, time_ns=round(at * 1e9), **fields)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_batch_leaves_when_it_is_full_and_the_rest_at_the_end():
    """Batches have `size` records in order of arrival; `flush` returns the last, smaller one."""
    batch = Batch(size=2)
    out = [batch(record(n, channel=f"c{n}", seq=n)) for n in range(3)]
    assert [each and each.data for each in out] == [None, [0, 1], None]
    assert out[1].metadata["channels"] == ["c0", "c1"]
    assert [each.data for each in batch.held()] == [2]
    assert [each.data for each in batch.flush()] == [[2]]
    assert list(batch.held()) == []


def test_a_batch_leaves_when_its_time_is_over():
    """With a time limit, an incomplete batch is emitted when its first record has waited that long."""
    batch, clock = Batch(size=10, timeout_s=2), Clock()
    batch._clock = clock
    assert batch.wait_s() is None
    batch(record(1))
    clock.now = 1.5
    assert batch.wait_s() == 0.5
    assert list(batch.expire()) == []
    clock.now = 2.0
    assert [each.data for each in batch.expire()] == [[1]]


def test_batches_by_channel_can_be_stacked():
    """Each channel fills its own batch; arrays become one with a new first axis."""
    batch = Batch(size=2, by_channel=True, stack=True)
    out = [batch(record(np.full((2, 3), n), channel="ab"[n % 2])) for n in range(4)]
    assert [each.channel for each in out if each] == ["a", "b"]
    assert out[2].data.shape == (2, 2, 3)


def test_an_array_that_cannot_be_stacked_costs_only_itself():
    """An array of another shape or dtype is rejected on arrival, and its neighbours are still emitted together."""
    arrays = [np.zeros(3), np.zeros(3), np.zeros(4), np.zeros(3, "uint8"), np.ones(3)]
    kept = []
    flow = ps.source(arrays) >> ps.processor("batch", size=3, stack=True) >> kept.append
    report = ps.Pipeline(flow).run()
    assert report.dead_lettered == 2
    assert [record.data.shape for record in kept] == [(3, 3)]
    assert report.account.node("batch").buffered == 2


def test_a_batch_in_a_run_meets_its_time_limit():
    """In a run the limit holds without any further record, and everything is accounted for."""
    import threading

    first = threading.Event()

    class Source:
        gives = "any"
        given = False

        def open(self):
            pass

        def read(self, max_records, timeout_s):
            if not self.given:
                self.given = True
                return [record(1)]
            if first.wait(timeout_s):
                raise EndOfSource("done")
            return ()

        def close(self):
            pass

    def see(each):
        first.set()

    report = ps.Pipeline(ps.source(Source()) >> ps.processor(Batch(size=5, timeout_s=0.05)) >> see).run()
    assert report.ok, report


def test_align_gives_one_record_per_moment_and_measures_the_skew():
    """Records within the tolerance become one; the skew is the time between the earliest and the latest."""
    align = Align(channels=["a", "b"], tolerance_s=0.010)
    assert align(record("a0", "a", 1.000)) == []
    [moment] = align(record("b0", "b", 1.004))
    assert moment.data == {"a": "a0", "b": "b0"}
    assert moment.metadata["skew_s"] == pytest.approx(0.004)
    assert align(record("x", "other", 1.0)) is None


@pytest.mark.parametrize(("missing", "expected"), [("skip", []), ("wait", []), ("none", [{"a": "a0", "b": None}])])
def test_align_when_a_channel_is_known_to_lack_a_moment(missing, expected):
    """If a channel's next record is later than the tolerance, the configured rule handles the incomplete moment."""
    deadline = None if missing == "wait" else 100
    align = Align(channels=["a", "b"], tolerance_s=0.01, missing=missing, deadline_s=deadline)
    out = align(record("a0", "a", 1.0)) + align(record("b1", "b", 2.0)) + align(record("a1", "a", 2.001))
    assert [moment.data for moment in out] == [*expected, {"a": "a1", "b": "b1"}]


def test_align_gives_up_a_silent_channel_at_its_deadline():
    """A silent channel delays a moment until the deadline, and no longer."""
    align, clock = Align(channels=["a", "b"], tolerance_s=0.01, missing="none", deadline_s=3), Clock()
    align._clock = clock
    assert align(record("a0", "a", 1.0)) == []
    assert align.wait_s() == 3
    clock.now = 3.0
    assert [moment.data for moment in align.expire()] == [{"a": "a0", "b": None}]
    assert list(align.held()) == []


@pytest.mark.parametrize("place", ["thread", "process"])
@pytest.mark.parametrize("missing", ["skip", "wait"])
def test_a_run_counts_what_align_skips_as_discarded(missing, place):
    """Records of skipped moments are discarded, by channel; those that left with others' moments are buffered."""
    records = [
        record(n, channel, 1.0 + n, seq=n) for n in range(10) for channel in ("a", "b") if channel == "a" or n % 3
    ]
    deadline_s = None if missing == "wait" else 1000.0
    align = ps.processor(
        "align", channels=["a", "b"], tolerance_s=0.1, missing=missing, deadline_s=deadline_s, place=place
    )
    report = ps.Pipeline(ps.source(records) >> align >> ps.store("memory")).run()
    account = report.account.node("align")
    assert report.account.node("memory").stored == 6
    assert (account.records_in, account.discarded, account.passed + account.buffered) == (16, 4, 12)
    assert report.account.imbalances() == []


@pytest.mark.parametrize("missing", ["wait", "skip", "none"])
def test_align_bounds_what_waits(missing, caplog):
    """More bytes than max_bytes do not wait for a silent channel: the earliest moments are decided, and reported."""
    deadline = None if missing == "wait" else 1000
    align = Align(channels=["a", "b"], tolerance_s=0.01, missing=missing, deadline_s=deadline, max_bytes=350)
    out = [moment for n in range(10) for moment in align(record(bytes(100), "a", 1.0 + n, seq=n))]
    assert len(list(align.held())) == 3
    assert [moment.metadata["missing"] for moment in out] == ([["b"]] * 7 if missing == "none" else [])
    assert align.overfull == 7
    assert align.skipped == (0 if missing == "none" else 7)
    assert len(caplog.records) == 1
    assert "'b'" in caplog.text
    [moment] = align(record(bytes(100), "b", 8.0))
    assert moment.metadata["missing"] == []


def test_align_refuses_what_cannot_work():
    """One channel, no tolerance, a rule without its deadline: rejected when the component is created."""
    with pytest.raises(ConfigError, match="at least two"):
        Align(channels=["a"], tolerance_s=1)
    with pytest.raises(ConfigError, match="tolerance_s"):
        Align(channels=["a", "b"], tolerance_s=0)
    with pytest.raises(ConfigError, match="deadline_s"):
        Align(channels=["a", "b"], tolerance_s=1, missing="skip")


def test_choosing():
    """Filter, sample and rate pass the configured records, channel by channel."""
    keep = Filter(channels=("cam*",), coords={"z": 1}, metadata={"kind": "light"})
    good = record(1, "cam2", coords=ps.Coordinates(z=1), metadata={"kind": "light"})
    assert keep(good) is good
    assert keep(good.replace(channel="mic")) is None
    assert keep(good.replace(metadata={})) is None
    assert keep(good.replace(coords=ps.Coordinates(z=2))) is None
    third = Sample(every=3)
    assert [n for n in range(7) if third(record(n, "a"))] == [0, 3, 6]
    slow = Rate(per_s=10)
    assert [n for n in range(50) if slow(record(n, "a", at=1 + n * 0.02))] == [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]
    assert slow(record(0, "a", at=0.5)) is not None
    with pytest.raises(ConfigError):
        Sample(every=0)


def test_split_gives_each_part_its_number():
    """The parts of an array are emitted one by one, numbered in the coordinates, and in `seq` after the whole."""
    split = Split(axis="roi")
    wholes = [record(np.arange(6).reshape(3, 2), "a", seq=4), record(np.zeros((1, 2)), "a", seq=5)]
    parts = [part for whole in wholes for part in split(whole)]
    assert len({part.seq for part in parts}) == 4
    assert parts[3].seq == 5
    assert [part.seq for part in Split()(wholes[0])] == [part.seq for part in parts[:3]]
    assert [part.coords["roi"] for part in parts] == [0, 1, 2, 0]
    assert parts[1].data.tolist() == [2, 3]
    with pytest.raises(TypeError, match="cannot be split"):
        split(record(b"bytes"))


def test_files_go_on_behind_what_was_committed(tmp_path):
    """A second run of a files source with a state file reads only uncommitted files."""
    for name in ("b", "a", "c"):
        (tmp_path / name).write_bytes(name.encode())
    state = tmp_path / "state" / "files.json"
    source = ps.source(FilesSource(directory=tmp_path, state=state))
    store = MemoryStore()
    assert ps.Pipeline(source >> ps.store("null")).run().ok
    assert json.loads(state.read_text())["done"] == "c"
    (tmp_path / "d").write_bytes(b"d")
    shelf: list = []
    report = ps.Pipeline(source >> (lambda each: shelf.append(each))).run()
    assert report.ok, report
    assert [(each.data, each.metadata["path"], each.channel) for each in shelf] == [(b"d", "d", tmp_path.name)]
    assert len(store) == 0


def test_files_that_are_not_there(tmp_path):
    """A missing directory and a damaged state file are errors that name the path."""
    with pytest.raises(SourceError, match="nowhere is not a directory"):
        FilesSource(directory=tmp_path / "nowhere").open()
    (tmp_path / "state").write_text("[]")
    with pytest.raises(SourceError, match="not the state"):
        FilesSource(directory=tmp_path, state=tmp_path / "state").open()


def test_dead_letters_can_be_sent_through_again(tmp_path, monkeypatch):
    """Records that failed in one run are replayed unchanged: data, metadata, channel and number."""
    monkeypatch.chdir(tmp_path)
    broken = [True]

    def process(each):
        if broken[0] and each.data[0] % 2:
            raise ValueError("odd")
        return each

    records = [record(np.array([n, 7]), "cam", seq=n, metadata={"n": n}) for n in range(6)]
    report = ps.Pipeline(ps.source(records) >> process >> ps.store("null")).run()
    assert report.dead_lettered == 3
    broken[0] = False
    again: list = []
    source = ps.source(DeadLetterSource(directory=tmp_path / "penstock-dead-letters", node="process"))
    assert ps.Pipeline(source >> process >> again.append).run().ok
    assert [(each.data.tolist(), each.seq, each.metadata, each.channel) for each in again] == [
        ([n, 7], n, {"n": n}, "cam") for n in (1, 3, 5)
    ]
    with pytest.raises(SourceError, match="no dead letters"):
        DeadLetterSource(directory=tmp_path / "elsewhere").open()


def test_a_record_that_no_codec_can_write_is_described_in_the_dead_letters(tmp_path, monkeypatch):
    """Data that cannot be stored still leave a dead letter that describes them."""
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    from penstock.dead_letters import read_dead_letters

    report = ps.Pipeline(ps.source([object()]) >> (lambda each: 1 / 0)).run()
    [letter] = read_dead_letters(Path(report.dead_letters))
    assert "object object at" in letter.parent.data
    assert "not_kept" in letter.parent.metadata
    assert report.dead_lettered == 1


def test_a_log_store_cuts_off_a_torn_end(tmp_path):
    """A log whose last entry was truncated by a crash is continued after the last complete one."""
    path = tmp_path / "all.log"
    assert ps.Pipeline(ps.source(range(5)) >> ps.store("log", path=str(path))).run().ok
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert [each.data for _, each in read_log(path)] == [0, 1, 2, 3]
    assert ps.Pipeline(ps.source([9]) >> ps.store(LogStore(path=path))).run().ok
    assert [each.data for _, each in read_log(path)] == [0, 1, 2, 3, 9]


def test_a_log_store_keeps_the_neighbours_of_a_bad_record(tmp_path):
    """Records that cannot be written as bytes are named; the others are in the log."""
    store = LogStore(path=tmp_path / "log")
    store.open()
    bad = record(object())
    with pytest.raises(StoreError) as caught:
        store.write([record(1), bad, record(2)])
    assert [each for each, _ in caught.value.failed] == [bad]
    store.close()
    assert [each.data for _, each in read_log(tmp_path / "log")] == [1, 2]
    (tmp_path / "other").write_text("some text that is not a log")
    with pytest.raises(StoreError, match="not a record log"):
        LogStore(path=tmp_path / "other").open()


def test_b1_a_memory_store_can_be_asked():
    """get, keys, delete, replace, subscribe and capacity of the store in memory."""
    store = MemoryStore(capacity=2)
    store.open()
    told: list = []
    end = store.subscribe(told.append, "a/*")
    array = np.zeros(2)
    store.write([record(array, "a"), record(2, "b")])
    array[0] = 5
    assert store.get("a/0").data.tolist() == [0, 0]
    assert told == ["a/0"]
    assert "b/0" in store
    assert list(store.keys()) == ["a/0", "b/0"]
    with pytest.raises(StoreError, match="full"):
        store.write([record(3, "c")])
    store.replace("b/0", record(4, "b"))
    store.delete("a/0")
    with pytest.raises(ObjectNotFoundError, match="'a/0'"):
        store.get("a/0")
    with pytest.raises(StoreError, match="already"):
        store.write([record(5, "b")])
    end()
    store.write([record(6, "a")])
    assert len(told) == 1
    assert len(store) == 2


def test_bytes_become_records_and_json_what_it_says(tmp_path, monkeypatch):
    """The decoders `record` and `json` return the written data, with the packet as parent; a bad packet fails alone."""
    monkeypatch.chdir(tmp_path)
    from penstock.codec import encode_bytes

    packets = [record(encode_bytes(record(np.arange(n), metadata={"n": n})), "wire", seq=n) for n in range(3)]
    got: list = []
    report = ps.Pipeline(ps.source([*packets, record(b"garbage", "wire")]) >> ps.decoder("record") >> got.append).run()
    assert [each.data.tolist() for each in got] == [[], [0], [0, 1]]
    assert [(each.channel, each.parent) for each in got] == [("wire", packet) for packet in packets]
    assert (report.dead_lettered, report.balanced) == (1, True)
    got.clear()
    texts = [b'{"a": 1}', b"[1, 2", "null"]
    report = ps.Pipeline(ps.source(texts) >> ps.decoder("json") >> got.append).run()
    assert [each.data for each in got] == [{"a": 1}, None]
    assert report.dead_lettered == 1


@pytest.mark.parametrize("replaced", [False, True])
def test_a_log_that_vanishes_is_no_success(tmp_path, replaced):
    """When the file of a log is removed or replaced under it, sync is a StoreError."""
    from penstock.builtin.letters import LogStore

    store = LogStore(path=tmp_path / "a.log")
    store.open()
    store.write([ps.Record(b"x")])
    store.sync()
    (tmp_path / "a.log").unlink()
    if replaced:
        (tmp_path / "a.log").write_bytes(b"")
    for call in (store.sync, store.close):
        with pytest.raises(ps.errors.StoreError, match="was removed or replaced"):
            call()
