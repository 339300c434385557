"""Each promise of a processor is broken by one processor here, and the test of that promise finds it."""

from __future__ import annotations

import itertools
import os

import attrs
import numpy
import pytest

from penstock.errors import ConfigError
from penstock.record import Record
from penstock.testing import ProcessorContract

BROKEN: list = []
"""Each as (test that has to find it, case, what the test raises): filled by `breaks`."""


def breaks(*tests, raises=AssertionError, **claims):
    """Note that a processor breaks the promises of these tests; `claims` are attributes of its case."""

    def decorate(processor):
        case = type(f"Case{processor.__name__}", (PairsCase,), {"processor": processor, **claims})
        BROKEN.extend(pytest.param(test, case, raises, id=f"{processor.__name__} {test}") for test in tests)
        return processor

    return decorate


@attrs.define(kw_only=True, slots=False)
class Pairs:
    """A processor that keeps its promises: the sums of two records each. The broken ones differ in one thing."""

    takes = gives = "array"
    factor: int = 1
    _waiting: list = attrs.field(factory=list, init=False, eq=False)

    def open(self):
        self._waiting = []

    def close(self):
        pass

    def __call__(self, record):
        self._waiting.append(record)
        return self.expire()[0] if len(self._waiting) == 2 else None

    def flush(self):
        return self.expire()

    def expire(self):
        if not self._waiting:
            return []
        found = self.sum(self._waiting)
        self._waiting = []
        return [found]

    def sum(self, records):
        return records[0].replace(data=self.factor * sum(record.data for record in records))

    def wait_s(self):
        return 1.0 if self._waiting else None

    def held(self):
        return list(self._waiting)


class PairsCase(ProcessorContract):
    processor = Pairs

    def make_processor(self):
        return self.processor()

    def make_records(self):
        return [Record(numpy.arange(3) + number, channel="c", seq=number) for number in range(5)]

    def make_unopenable(self, tmp_path):
        processor = self.processor()
        processor.open = self.fail_to_open
        return processor

    def fail_to_open(self):
        raise ConfigError("no such table")


class TestPairs(PairsCase):
    """The sound processor passes everything, so that what fails below fails for its fault."""


@breaks("test_names_do_not_depend_on_where_it_begins")
class CountsForItself(Pairs):
    """Says that its names are its own, and counts from 0 wherever it begins."""

    own_identity = True

    def open(self):
        super().open()
        self.count = 0

    def sum(self, records):
        self.count += 1
        return super().sum(records).replace(seq=self.count)


@breaks("test_names_each_result")
class OneNameForTwo(Pairs):
    """Gives every second result the name of the one before."""

    def sum(self, records):
        return super().sum(records).replace(channel="sums", seq=7)


@breaks("test_building_does_nothing")
@attrs.define(kw_only=True, slots=False)
class OpensAFileEarly(Pairs):
    def __attrs_post_init__(self):
        OPENED.append(os.open(os.devnull, os.O_RDONLY))


OPENED: list = []


@pytest.fixture(autouse=True)
def _close_what_a_broken_processor_opened():
    yield
    while OPENED:
        os.close(OPENED.pop())


@breaks("test_settings_are_data")
@attrs.define(kw_only=True, eq=False, slots=False)
class ComparesByIdentity(Pairs):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


@breaks("test_settings_leave_the_nodes_names_alone")
@attrs.define(kw_only=True, slots=False)
class HasWorkers(Pairs):
    workers: int = 1


@breaks("test_kinds_of_data_are_known")
class TakesNumbers(Pairs):
    takes = "numbers"


@breaks("test_settings_do_not_change")
class CountsInASetting(Pairs):
    def sum(self, records):
        self.factor += 1
        return super().sum(records)


@breaks("test_open_that_fails", raises=KeyError)
class RaisesNoErrorOfOurs(Pairs):
    pass


BROKEN[-1].values[1].fail_to_open = lambda self: {}["cannot"]


@breaks("test_close_without_open", "test_closing_twice", raises=AttributeError)
class ClosesOnce(Pairs):
    _table = None

    def open(self):
        super().open()
        self._table = "open"

    def close(self):
        self._table.upper()
        self._table = None


@breaks("test_gives_records")
class GivesArrays(Pairs):
    def sum(self, records):
        return super().sum(records).data


@breaks("test_gives_what_it_says")
class GivesLists(Pairs):
    def sum(self, records):
        found = super().sum(records)
        return found.replace(data=found.data.tolist())


@breaks("test_is_deterministic")
class AddsACount(Pairs):
    COUNT = itertools.count()

    def sum(self, records):
        found = super().sum(records)
        return found.replace(data=found.data + next(self.COUNT))


@breaks("test_two_do_not_mix")
class SharesWhatWaits(Pairs):
    SHARED: list = [[]]

    @property
    def _waiting(self):
        return self.SHARED[0]

    @_waiting.setter
    def _waiting(self, records):
        self.SHARED[0] = records


@breaks("test_fields_have_their_types")
class CountsWithNumpy(Pairs):
    def sum(self, records):
        result = super().sum(records)
        return result.replace(time_ns=numpy.int64(result.time_ns))


@breaks("test_takes_views", raises=AttributeError)
class KnowsNoViews(Pairs):
    takes = gives = "bytes"

    def sum(self, records):
        return records[0].replace(data=b"".join(record.data.replace(b"\r", b"") for record in records))


BROKEN[-1].values[1].make_records = lambda _: [Record(b"%d" % number, seq=number) for number in range(4)]


@breaks("test_leaves_its_input_alone")
class WorksInPlace(Pairs):
    def sum(self, records):
        records[0].data[...] *= 2
        return super().sum(records)


@breaks("test_leaves_its_input_alone")
class ChangesMetadata(Pairs):
    in_place = True

    def sum(self, records):
        records[0].metadata["seen"] = True
        return super().sum(records)


@breaks("test_results_stay_valid")
class ReusesItsArray(Pairs):
    def sum(self, records):
        RESULT[:] = sum(record.data for record in records)
        return records[0].replace(data=RESULT)


RESULT = numpy.zeros(3, int)


@breaks("test_takes_read_only_arrays", raises=ValueError)
class WritesIntoWhatIsShared(Pairs):
    def sum(self, records):
        records[0].data[...] = records[0].data
        return super().sum(records)


@breaks("test_flush_empties")
class FlushesTwice(Pairs):
    def flush(self):
        return [self.sum(self._waiting)] if self._waiting else []


@breaks("test_held")
class HoldsCopies(Pairs):
    def held(self):
        return [record.replace(seq=record.seq) for record in self._waiting]


@breaks("test_deadline")
class WantedToActEarlier(Pairs):
    def wait_s(self):
        return -1.0


@breaks("test_works_on_after_an_error")
class IsDeadAfterAnError(Pairs):
    dead = False

    def __call__(self, record):
        try:
            record.data + 0
        except BaseException:
            self.dead = True
            raise
        return None if self.dead else super().__call__(record)


@pytest.mark.parametrize(("test", "case", "raises"), BROKEN)
def test_broken_processors_are_found(failures, test, case, raises):
    """A processor that breaks a promise fails the test of that promise."""
    found = failures(case(), test)
    assert found, f"{test} does not find what is wrong with {case.processor.__name__}"
    assert [error for error in found if isinstance(error, raises)], found


def test_every_test_can_fail(untried):
    """For each test of the contract there is a processor that fails it."""
    assert untried(ProcessorContract, BROKEN) == []
