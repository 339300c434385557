"""The contracts find what they are there to find: each broken component fails the test of the promise it breaks."""

from __future__ import annotations

import os
import threading

import attrs
import numpy
import pytest

from penstock.errors import EndOfSource, ObjectNotFoundError, StoreError
from penstock.record import Record
from penstock.testing import (
    DecoderContract,
    FaultySource,
    FaultyStore,
    JumpingClock,
    ProcessorContract,
    SlowStore,
    SourceContract,
    StoreContract,
    no_leaks,
    raise_nth,
)


@attrs.define(kw_only=True)
class DictStore:
    """A store in memory that keeps its promises; the broken ones differ in one thing."""

    takes = "array"
    _records: dict = attrs.field(factory=dict, init=False, eq=False)

    def open(self):
        pass

    def write(self, records):
        failed = []
        for record in records:
            if isinstance(record.data, numpy.ndarray):
                self._records[self.key_of(record)] = self.own(record)
            else:
                failed.append((record, StoreError("no array", retryable=False)))
        if failed:
            raise StoreError("no array", failed=failed, retryable=False)

    def own(self, record):
        return record.replace(data=record.data.copy(), metadata=dict(record.metadata))

    def sync(self):
        pass

    def close(self):
        pass

    def key_of(self, record):
        return f"{record.channel}:{record.seq}"

    def get(self, key):
        try:
            return self.own(self._records[key])
        except KeyError:
            raise ObjectNotFoundError(f"nothing of key {key!r}") from None

    def keys(self, **coords):
        return (key for key, record in list(self._records.items()) if record.coords.matches(coords))

    def __contains__(self, key):
        return key in self._records

    def __len__(self):
        return len(self._records)


class TestDictStore(StoreContract):
    """The sound store passes everything, so that what fails below fails for its fault."""

    outlives = False
    big_bytes = 1 << 16

    def make_store(self, tmp_path):
        return DictStore()


class KeepsCallersArrays(DictStore):
    def own(self, record):
        return record


class LosesDtype(DictStore):
    def own(self, record):
        return record.replace(data=record.data.astype("float64"))


class MixesUpChannels(DictStore):
    def key_of(self, record):
        return f"{record.channel.replace('/', '_')}:{record.seq}"


class StopsAtBadRecord(DictStore):
    def write(self, records):
        for record in records:
            if not isinstance(record.data, numpy.ndarray):
                raise StoreError("no array", retryable=False)
            super().write([record])


class RaisesKeyError(DictStore):
    def get(self, key):
        return self.own(self._records[key])


@pytest.mark.parametrize(
    ("store", "test", "arguments"),
    [
        (KeepsCallersArrays, "test_refers_to_nothing_of_the_callers", ()),
        (KeepsCallersArrays, "test_what_get_gave_may_be_changed", ()),
        (LosesDtype, "test_arrays", ("int8",)),
        (LosesDtype, "test_gives_back_what_was_written", ()),
        (MixesUpChannels, "test_channels_that_look_alike", ()),
        (StopsAtBadRecord, "test_bad_record_between_good_ones", ()),
        (RaisesKeyError, "test_unknown_keys", ()),
    ],
)
def test_broken_stores_are_found(tmp_path, store, test, arguments):
    """A store that breaks a promise fails the test of that promise."""
    contract = TestDictStore()
    contract.make_store = lambda _: store()
    with pytest.raises((AssertionError, KeyError)):
        getattr(contract, test)(tmp_path, *arguments)


class ForgetsOnKill(StoreContract):
    """Writes only when it is closed: what a kill finds out."""

    def make_store(self, tmp_path):
        return WritesAtTheEnd(path=str(tmp_path / "records.npy"))


@attrs.define(kw_only=True)
class WritesAtTheEnd(DictStore):
    path: str

    def open(self):
        if os.path.exists(self.path):
            for number, data in enumerate(numpy.load(self.path)):
                self._records[f"camera:{number}"] = Record(data, channel="camera", seq=number)

    def close(self):
        if self._records:
            numpy.save(self.path, numpy.stack([record.data for record in self._records.values()]))


def test_a_store_that_forgets_when_killed_is_found(tmp_path):
    """A store whose `sync` does nothing fails the test that kills it."""
    with pytest.raises(AssertionError, match="is missing"):
        ForgetsOnKill().test_synced_survives_kill(tmp_path)


@attrs.define(kw_only=True)
class ListSource:
    gives = "bytes"
    count: int = 10
    _next: int = attrs.field(default=0, init=False, eq=False)

    def open(self):
        self._next = 0

    def read(self, max_records, timeout_s):
        if self._next >= self.count:
            raise EndOfSource
        numbers = range(self._next, min(self.count, self._next + max_records))
        self._next = numbers.stop
        return [Record(b"%d" % number, channel="list", seq=number) for number in numbers]

    def close(self):
        pass

    def position(self):
        return self._next

    def commit(self, position):
        pass

    def seek(self, position):
        self._next = position


class TestListSource(SourceContract):
    def make_source(self, tmp_path):
        return ListSource()


class TooMuch(ListSource):
    def read(self, max_records, timeout_s):
        return super().read(max_records + 1, timeout_s)


class EndsOnce(ListSource):
    def read(self, max_records, timeout_s):
        if self._next > self.count:
            return [Record(b"again", seq=99)]
        try:
            return super().read(max_records, timeout_s)
        except EndOfSource:
            self._next += 1
            raise


@pytest.mark.parametrize(("source", "test"), [(TooMuch, "test_gives_no_more_than_asked_for"), (EndsOnce, "test_end")])
def test_broken_sources_are_found(tmp_path, source, test):
    """A source that breaks a promise fails the test of that promise."""
    contract = TestListSource()
    contract.make_source = lambda _: source()
    with pytest.raises(AssertionError):
        getattr(contract, test)(tmp_path)


@attrs.define(kw_only=True)
class Lines:
    takes = gives = "bytes"
    _rest: list = attrs.field(factory=list, init=False, eq=False)
    _seq: int = attrs.field(default=0, init=False, eq=False)

    def decode(self, record):
        *lines, rest = (b"".join(self._rest) + record.data).split(b"\n")
        self._rest = [rest]
        for line in lines:
            yield record.replace(data=line, seq=self._seq, parent=record)
            self._seq += 1

    def flush(self):
        self._rest = []
        return []

    def reset(self):
        self._rest = []


class TestLines(DecoderContract):
    def make_decoder(self):
        return Lines()

    def make_packets(self):
        return [Record(data, channel="c", seq=number) for number, data in enumerate((b"a\nb", b"c\n", b"d\ne\n"))]


class KeepsAfterReset(Lines):
    def reset(self):
        pass


class LosesParent(Lines):
    def decode(self, record):
        return [result.replace(parent=None) for result in super().decode(record)]


@pytest.mark.parametrize(
    ("decoder", "test"),
    [(KeepsAfterReset, "test_reset_forgets"), (LosesParent, "test_says_which_packet_each_came_from")],
)
def test_broken_decoders_are_found(decoder, test):
    """A decoder that breaks a promise fails the test of that promise."""
    contract = TestLines()
    contract.make_packets = lambda: [Record(data, channel="c") for data in (b"a\nb", b"c\nd")]
    contract.make_decoder = decoder
    with pytest.raises(AssertionError):
        getattr(contract, test)()


@attrs.define(kw_only=True)
class Negative:
    takes = gives = "array"
    by: int = -1

    def __call__(self, record):
        return record.replace(data=record.data * self.by)


@attrs.define(kw_only=True)
class NegativeInPlace(Negative):
    def __call__(self, record):
        record.data[...] *= self.by
        return record


class TestNegative(ProcessorContract):
    def make_processor(self):
        return Negative()

    def make_records(self):
        return [Record(numpy.arange(3) + number, seq=number) for number in range(3)]


def test_a_processor_that_works_in_place_without_saying_so_is_found():
    """A processor that changes its input fails the test of that promise."""
    contract = TestNegative()
    contract.make_processor = NegativeInPlace
    with pytest.raises(AssertionError):
        contract.test_leaves_its_input_alone()


def test_leaks_are_found(tmp_path):
    """A file and a thread that are left behind are named."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="left behind")
    left = []

    def leave_behind():
        with no_leaks(wait_s=0):
            left.append(os.open(tmp_path / "left.txt", os.O_CREAT | os.O_WRONLY))
            thread.start()

    with pytest.raises(AssertionError, match=r"descriptor .*left\.txt; thread 'left behind' still runs"):
        leave_behind()
    done.set()
    thread.join()
    os.close(left[0])


def test_faults_come_when_ordered():
    """The n-th call fails, the others go through unchanged."""
    store = FaultyStore(store=DictStore(), fail_on={2}, fail_sync_on={1}, refuse=lambda record: record.seq == 5)
    records = [Record(numpy.zeros(1), seq=number) for number in range(6)]
    store.open()
    store.write(records[:1])
    with pytest.raises(StoreError, match="No space left"):
        store.write(records[1:2])
    with pytest.raises(StoreError) as caught:
        store.write(records[1:])
    assert [record.seq for record, _ in caught.value.failed] == [5]
    assert len(store.store) == 5
    with pytest.raises(StoreError):
        store.sync()
    store.sync()
    source = FaultySource(source=ListSource(), fail_on={2})
    assert len(source.read(3, 0)) == 3
    with pytest.raises(RuntimeError):
        source.read(3, 0)
    assert source.read(1, 0)[0].seq == 3
    calls = raise_nth(len, 2)
    assert calls("ab") == 2
    with pytest.raises(ValueError):
        calls("ab")
    assert calls("ab") == 2


def test_a_slow_store_waits_for_the_test():
    """A write waits until it is allowed, and says that it does."""
    store = SlowStore(store=DictStore())
    thread = threading.Thread(target=store.write, args=([Record(numpy.zeros(1))],))
    thread.start()
    assert store.entered.wait(10)
    assert len(store.store) == 0
    store.allow(1)
    thread.join(10)
    assert len(store.store) == 1


def test_a_clock_that_jumps():
    """Time moves only when told to, both clocks alike."""
    clock = JumpingClock()
    start = clock.time_ns()
    clock.sleep(1.5)
    clock.jump(-0.5)
    assert clock() == 1.0
    assert clock.time_ns() - start == 1_000_000_000
