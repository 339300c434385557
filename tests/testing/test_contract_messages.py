"""A failing test of a contract names the promise that was broken, and what to do about it."""

from __future__ import annotations

import ast
import inspect
import io
from pathlib import Path

import attrs
import pytest

from penstock.builtin.memory import MemoryStore
from penstock.errors import EndOfSource, StoreError
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


MODULES = sorted(Path(inspect.getfile(ComponentContract)).parent.glob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=[path.stem for path in MODULES])
def test_each_assertion_has_a_message(module):
    """No assertion of `penstock.testing` fails with a bare value: each has a sentence for the author."""
    asserts = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Assert)]
    bare = [f"line {node.lineno}: {ast.unparse(node.test)}" for node in asserts if not _is_text(node.msg)]
    assert bare == []


def _is_text(message):
    """Tell whether this is a string, an f-string or one that is joined, and not just a value."""
    return isinstance(message, (ast.Constant, ast.JoinedStr, ast.BinOp)) and "'" in ast.unparse(message)


class Forgets(MemoryStore):
    def __len__(self):
        return 0


class TestForgets(StoreContract):
    __test__ = False
    outlives = on_disk = False

    def make_store(self, tmp_path):
        return Forgets()


def test_a_count_says_expected_got_and_remedy(tmp_path):
    """An author whose store counts wrongly reads the number, the expected one, and what to do."""
    with pytest.raises(AssertionError, match=r"len\(\) is 0, expected 14: each record that was written counts once"):
        TestForgets().test_gives_back_what_was_written(tmp_path)


def test_a_wrong_list_of_failed_records_says_which(tmp_path):
    """An author whose StoreError names the wrong records reads which were named, and which had to be."""
    case = TestForgets()
    good, bad = case.records(2)
    error = StoreError("no", failed=[(good, ValueError("no"))])
    with pytest.raises(AssertionError, match=r"StoreError\.failed names \['camera:0'\], expected \['camera:1'\]"):
        case.assert_failed(error, [bad])
    with pytest.raises(AssertionError, match=r"has 'no' as the error of seq 0, expected an exception"):
        case.assert_failed(StoreError("no", failed=[(good, "no")]), [good])


def test_wrong_keys_say_which_are_missing(tmp_path):
    """An author whose store lists wrong keys reads which are missing, which are too many, or the wrong order."""
    case = TestForgets()
    with pytest.raises(AssertionError, match=r"\['b'\] are missing, and \['c'\] are too many: list them all"):
        case.assert_keys(["a", "c"], ["a", "b"], "list them all")
    with pytest.raises(AssertionError, match=r"they come as \['b', 'a'\], expected \['a', 'b'\]: sort them"):
        case.assert_keys(["b", "a"], ["a", "b"], "sort them")
