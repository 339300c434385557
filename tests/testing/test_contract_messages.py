"""A failing test of a contract names the promise that was broken, and what to do about it."""

from __future__ import annotations

import inspect
import io

import attrs
import pytest

from penstock.errors import EndOfSource
from penstock.record import Record
from penstock.testing import DecoderContract, ProcessorContract, SourceContract, StoreContract
from penstock.testing.component_contract import ComponentContract

CONTRACTS = [DecoderContract, ProcessorContract, SourceContract, StoreContract]


@attrs.define(kw_only=True)
class Numbers:
    """A source of ten numbers; the cases below differ in one thing."""

    _next: int = attrs.field(default=0, init=False, eq=False)

    def open(self):
        self._next = 0

    def read(self, max_records, timeout_s):
        if self._next == 10:
            self.end()
        self._next += 1
        return [self.record(self._next)]

    def record(self, number):
        return Record(number, channel="numbers", seq=number)

    def end(self):
        raise EndOfSource("no more")

    def close(self):
        pass


class EndsAsAnIterator(Numbers):
    def end(self):
        raise StopIteration


class Slow(Numbers):
    def read(self, max_records, timeout_s):
        return ()


class Gaps(Numbers):
    def record(self, number):
        return Record(number, channel="numbers", seq=2 * number)


class Greedy(Numbers):
    def read(self, max_records, timeout_s):
        return [self.record(1), self.record(2)]


class Short(Numbers):
    def read(self, max_records, timeout_s):
        raise EndOfSource("no more")


class OddNumber(Numbers):
    def record(self, number):
        return Record(number, channel="numbers", seq=float(number))


class HoldsAFile(Numbers):
    def __init__(self):
        self.file = io.StringIO()

    def __reduce__(self):
        raise TypeError("cannot pickle an open file")


CASES = [
    (EndsAsAnIterator, "test_end", "raise penstock.errors.EndOfSource"),
    (Slow, "test_waits_no_longer_than_told", "pass the timeout on"),
    (Gaps, "test_counts_within_each_channel", "seq 4 after 2: count the gap in lost_upstream()"),
    (Greedy, "test_gives_no_more_than_asked_for", "keep the rest for the next call"),
    (Short, "test_gives_all_its_records", "0 records, and not 10: set `count`"),
    (OddNumber, "test_gives_all_its_records", "convert it with int()"),
    (HoldsAFile, "test_settings_are_data", "make them in open()"),
]


@pytest.mark.parametrize(("source", "test", "remedy"), CASES)
def test_the_message_says_what_to_do(source, test, remedy, tmp_path):
    """The message has a remedy, and a note has the promise: the docstring of the test."""

    class Case(SourceContract):
        slack_s = -0.1 if source is Slow else 0.5

        def make_source(self, tmp_path):
            return source()

    with pytest.raises((AssertionError, pytest.fail.Exception)) as caught:
        getattr(Case(), test)(tmp_path)
    assert remedy in str(caught.value)
    promise = inspect.getdoc(getattr(SourceContract, test)).split("\n\n")[0]
    assert [f"The promise that it breaks: {' '.join(promise.split())}"] == caught.value.__notes__


@pytest.mark.parametrize("contract", [*CONTRACTS, ComponentContract])
def test_each_test_of_a_contract_names_its_promise(contract):
    """Every inherited test adds its promise to an error, also an error of the component itself."""
    tests = {name: test for name, test in inspect.getmembers(contract) if name.startswith("test_")}
    assert tests
    for name, test in tests.items():
        assert getattr(test, "__wrapped__", None) is not None, name
        with pytest.raises(BaseException) as caught:
            test(object())
        assert "The promise that it breaks: " in "".join(getattr(caught.value, "__notes__", ())), name
