"""ProcessorContract: every promise of a processor as a test to inherit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from penstock.fields import is_exact
from penstock.processor import SupportsDeadline, SupportsFlush, SupportsHeld, SupportsLifecycle
from penstock.record import Record
from penstock.run.steps.naming import Naming
from penstock.testing.any_errors import ENDING, RaisingData
from penstock.testing.component_contract import ComponentContract, as_view, can, copied, is_kind, needs
from penstock.testing.equality import FIELDS, assert_same_record, assert_unique
from penstock.user_function import works_in_place


class ProcessorContract(ComponentContract):
    """Test a processor of one argument: inherit this class, and define how your processor and its records are made.

    ```python
    class TestThumbnail(ProcessorContract):
        def make_processor(self):
            return Thumbnail(height=64)

        def make_records(self):
            return [Record(numpy.zeros((480, 640), "uint8"), channel="camera", seq=n) for n in range(5)]
    ```
    """

    def make_processor(self) -> Any:
        """Return a new processor."""
        raise NotImplementedError("write make_processor(self), which returns your processor")

    def make_records(self) -> Sequence[Record]:
        """Return records for it; new ones, with data of their own, at each call."""
        raise NotImplementedError("write make_records(self), which returns records for it")

    def make(self, tmp_path: Path) -> Any:
        """Return a new processor, under the name that all contracts share."""
        return self.make_processor()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """Open a new processor for a block, if it can be opened."""
        processor = self.make_processor()
        try:
            if can(processor, SupportsLifecycle):
                processor.open()
            yield processor
        finally:
            if can(processor, SupportsLifecycle):
                processor.close()

    def process_all(self, processor: Any, records: Iterable[Record]) -> list[Record]:
        """Process and flush."""
        found = [result for record in records for result in _results(processor(record))]
        if can(processor, SupportsFlush):
            found.extend(processor.flush())
        return found

    def expected(self) -> list[Record]:
        """Return the results of a new processor for the records."""
        with self.opened() as processor:
            return self.process_all(processor, self.make_records())

    def test_gives_records(self) -> None:
        """Each result is a Record, several of them, or None."""
        for result in self.expected():
            assert isinstance(result, Record), f"{type(result).__name__} is not a Record: return record.replace(data=…)"

    def test_fields_have_their_types(self) -> None:
        """Every field of a result has exactly the type that `Record` declares, so that it can be written and read."""
        for record in self.expected():
            assert is_exact(record), f"a field of {record!r:.200} does not have the type that Record declares"

    def test_gives_what_it_says(self) -> None:
        """Its data are of the kind declared by `gives`, and the records' data of the kind declared by `takes`."""
        processor = self.make_processor()
        takes, gives = (getattr(processor, name, "any") for name in ("takes", "gives"))
        for record in self.make_records():
            assert is_kind(record.data, takes), f"takes={takes!r}, but data is {type(record.data).__name__}"
        for record in self.expected():
            assert is_kind(record.data, gives), (
                f"gives={gives!r}, but data is {type(record.data).__name__}: change `gives` or the data"
            )

    def test_is_deterministic(self) -> None:
        """Two processors return the same results for the same records."""
        self._assert_same(self.expected(), self.expected())

    def test_names_each_result(self) -> None:
        """No two results have the same (channel, seq), as the run names them or, with `own_identity`, as they are."""
        assert_unique(self._named(self.make_records()))

    def test_names_do_not_depend_on_where_it_begins(self) -> None:
        """With `own_identity`, each (channel, seq) means the same data wherever it begins, as after a restart."""
        if not getattr(self.make_processor(), "own_identity", False):
            return
        names = {(result.channel, result.seq): result for result in self._named(self.make_records())}
        for start in range(1, len(self.make_records())):
            for result in self._named(self.make_records()[start:]):
                before = names.get((result.channel, result.seq))
                if before is not None:
                    assert_same_record(before, result, fields=("data",))

    def _named(self, records: Sequence[Record]) -> list[Record]:
        """Process as a run does, which names the results unless the processor does."""
        with self.opened() as processor:
            own = getattr(processor, "own_identity", False)
            naming = Naming(type(processor).__name__, _fail)
            found: list[Record] = []
            for record in records:
                results = list(_results(processor(record)))
                found += results if own or not results else naming.several(record, results)
            late = list(processor.flush()) if can(processor, SupportsFlush) else []
            return found + (late if own else naming.late(late))

    def test_two_do_not_mix(self) -> None:
        """Two processors used alternately, as workers are, return the same results as each would alone."""
        with self.opened() as one, self.opened() as other:
            mine: list[Record] = []
            theirs: list[Record] = []
            for record, copy in zip(self.make_records(), self.make_records(), strict=True):
                mine.extend(_results(one(record)))
                theirs.extend(_results(other(copy)))
            mine.extend(self.process_all(one, ()))
            theirs.extend(self.process_all(other, ()))
        self._assert_same(self.expected(), mine)
        self._assert_same(self.expected(), theirs)

    def test_takes_views(self) -> None:
        """Bytes that arrive as a read-only view, as from shared memory, give the same results."""
        with self.opened() as processor:
            found = self.process_all(processor, map(as_view, self.make_records()))
        self._assert_same(self.expected(), found)

    def test_results_stay_valid(self) -> None:
        """Results do not change when it is called again, nor when it is closed."""
        records: list[Record] = []
        at_once: list[Any] = []
        with self.opened() as processor:
            for record in self.make_records():
                for result in self.process_all(processor, [record]):
                    records.append(result)
                    at_once.append(copied(result.data))
        for record, data in zip(records, at_once, strict=True):
            assert_same_record(record, record.replace(data=data))

    def test_leaves_its_input_alone(self) -> None:
        """It does not change the records that it receives; with `in_place = True` it may change their data only."""
        records = self.make_records()
        with self.opened() as processor:
            may_change = {"data"} if works_in_place(processor) else set()
            self.process_all(processor, records)
        for record, as_made in zip(records, self.make_records(), strict=True):
            assert_same_record(as_made, record, fields=FIELDS - may_change)

    def test_takes_read_only_arrays(self) -> None:
        """It accepts read-only arrays, as shared ones are; with `in_place` it receives a writable copy."""
        records = self.make_records()
        with self.opened() as processor:
            for record in records:
                if hasattr(record.data, "setflags") and not works_in_place(processor):
                    record.data.setflags(write=False)
            found, expected = len(self.process_all(processor, records)), len(self.expected())
        assert found == expected, f"{found} results from read-only arrays, {expected} from writable ones"

    def test_settings_do_not_change(self, tmp_path: Path) -> None:
        """Processing changes no setting."""
        super().test_settings_do_not_change(tmp_path)
        with self.opened() as processor:
            self.process_all(processor, self.make_records())
            if attrs.has(type(processor)):
                assert processor == self.make_processor(), (
                    "it differs from a new one after use: give fields for its state init=False, eq=False"
                )

    @pytest.mark.parametrize("kind", ENDING)
    def test_works_on_after_an_error(self, kind: str) -> None:
        """Data that raise an error of any class on use affect only their own record: it raises, and then returns the
        same results for later records as a new processor; or it accepts them.
        """
        bad = self.make_records()[0].replace(data=RaisingData(kind))
        with self.opened() as processor:
            try:
                list(_results(processor(bad)))
            except BaseException:
                self._assert_same(self.expected(), self.process_all(processor, self.make_records()))

    @needs(SupportsLifecycle)
    def test_closing_twice(self) -> None:
        """After open, close may be called any number of times."""
        with self.opened() as processor:
            processor.close()
            processor.close()

    @needs(SupportsFlush)
    def test_flush_empties(self) -> None:
        """After a flush the processor is empty: a second flush returns nothing, and nothing is held."""
        with self.opened() as processor:
            self.process_all(processor, self.make_records())
            assert list(processor.flush()) == [], (
                "a second flush() returned records: forget those that the first returned"
            )
            if can(processor, SupportsHeld):
                assert list(processor.held()) == [], "held() names records after flush(): nothing is kept then"

    @needs(SupportsHeld)
    def test_held(self) -> None:
        """It holds only records that it was given."""
        with self.opened() as processor:
            records = self.make_records()
            for record in records:
                list(_results(processor(record)))
                assert all(any(held is taken for taken in records) for held in processor.held()), (
                    "held() names a record that it did not receive: return the received objects, not copies"
                )

    @needs(SupportsDeadline)
    def test_deadline(self) -> None:
        """`wait_s` is None or at least 0, and `expire` returns records."""
        with self.opened() as processor:
            for record in self.make_records():
                list(_results(processor(record)))
                wait_s = processor.wait_s()
                assert wait_s is None or wait_s >= 0, f"wait_s() is {wait_s}: return 0 for a time that is over"
            assert all(isinstance(result, Record) for result in processor.expire()), (
                "expire() returned something that is not a Record"
            )

    def _assert_same(self, expected: Sequence[Record], actual: Sequence[Record]) -> None:
        assert len(actual) == len(expected), f"{len(actual)} results, and not {len(expected)} as from a new one"
        for one, other in zip(expected, actual, strict=True):
            assert_same_record(one, other)


def _fail(message: str, error: BaseException) -> None:
    raise AssertionError(message) from error


def _results(result: Any) -> Iterable[Any]:
    if result is None:
        return ()
    if isinstance(result, Record):
        return (result,)
    return list(result)
