"""No inherited test is skipped: what a component does not claim is tested too, as something that it has no part of."""

from __future__ import annotations

import attrs
import pytest

from penstock.errors import EndOfSource
from penstock.processor import SupportsFlush
from penstock.record import Record
from penstock.source import SupportsCommit
from penstock.store import SupportsRead
from penstock.testing import DecoderContract, ProcessorContract, SourceContract, StoreContract
from penstock.testing.component_contract import lacks


@attrs.define(kw_only=True)
class Sent:
    """A store that cannot be read: what is written is somewhere else."""

    def open(self):
        pass

    def write(self, records):
        pass

    def sync(self):
        pass

    def close(self):
        pass


class TestAStoreThatCannotBeRead(StoreContract):
    on_disk = False
    big_bytes = 1 << 10
    many = 100

    def make_store(self, tmp_path):
        return Sent()

    def make_bad_record(self):
        return None


@attrs.define(kw_only=True)
class Endless:
    """A source that gives three records, then nothing for ever, and cannot be asked again."""

    _given: int = attrs.field(default=0, init=False, eq=False)

    def open(self):
        pass

    def read(self, max_records, timeout_s):
        numbers = range(self._given, min(3, self._given + max_records))
        self._given = max(self._given, numbers.stop)
        return [Record(number, seq=number) for number in numbers]

    def close(self):
        pass


class TestASourceThatNeverEnds(SourceContract):
    count = 3
    ends = False
    repeats = False

    def make_source(self, tmp_path):
        return Endless()


def double(record):
    """Double."""
    return record.replace(data=record.data * 2)


class TestAFunction(ProcessorContract):
    picklable = False  # these tests are in no package, from which another process could import it

    def make_processor(self):
        return double

    def make_records(self):
        return [Record(number, seq=number) for number in range(3)]


class Upper:
    """A decoder of anything, with nothing inside."""

    def decode(self, record):
        return [Record(record.data.hex(), channel=record.channel, seq=record.seq, parent=record)]

    def flush(self):
        return ()

    def reset(self):
        pass


class TestADecoderThatTakesEverything(DecoderContract):
    picklable = False

    def make_decoder(self):
        return Upper()

    def make_packets(self):
        return [Record(b"%d" % number, channel="c", seq=number) for number in range(3)]


class HalfRead(Sent):
    def get(self, key):
        raise KeyError(key)


class HalfCommit(Endless):
    def position(self):
        return 0


class EndsAllTheSame(Endless):
    def read(self, max_records, timeout_s):
        found = super().read(max_records, timeout_s)
        if not found:
            raise EndOfSource
        return found


class HalfDeadline:
    def __call__(self, record):
        return record

    def wait_s(self):
        return None


def test_half_an_ability_is_found(tmp_path):
    """A component with some methods of an ability fails, and is told which are there and which are missing."""
    store = TestAStoreThatCannotBeRead()
    store.make_store = lambda _: HalfRead()
    with pytest.raises(AssertionError, match=r"HalfRead has get, but .* SupportsRead: write key_of, keys, "):
        store.test_keys(tmp_path)
    source = TestASourceThatNeverEnds()
    source.make_source = lambda _: HalfCommit()
    with pytest.raises(AssertionError, match=r"HalfCommit has position, but .* write commit too"):
        source.test_commit(tmp_path)
    processor = TestAFunction()
    processor.make_processor = HalfDeadline
    with pytest.raises(AssertionError, match="HalfDeadline has wait_s"):
        processor.test_deadline()


def test_what_is_claimed_against_the_truth_is_found(tmp_path):
    """A source declared as endless that ends fails."""
    source = TestASourceThatNeverEnds()
    source.make_source = lambda _: EndsAllTheSame()
    with pytest.raises(EndOfSource):
        source.test_end(tmp_path)


def test_an_ability_is_there_or_not():
    """`lacks` is True of what has no method of an ability, and False of what has all."""
    assert lacks(Sent(), SupportsRead)
    assert lacks(Endless(), SupportsCommit)
    assert lacks(double, SupportsFlush)
    assert not lacks(Upper(), SupportsFlush)
