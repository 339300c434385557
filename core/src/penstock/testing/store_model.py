"""Any sequence of what can be done with a store, compared with a dict: what hypothesis finds, nobody thinks of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penstock.errors import RecordExistsError
from penstock.record import Record
from penstock.store import SupportsDelete, SupportsRead, SupportsReplace
from penstock.testing.component_contract import can, needs
from penstock.testing.equality import assert_same_record, is_same_record
from penstock.testing.store_case import StoreCase

_NUMBERS = 2
"""How many keys there are: few, so that what happens to them happens to the same one."""


class StoreModel(StoreCase):
    """One test, of everything together."""

    @needs(SupportsRead)
    def test_any_sequence(self, tmp_path: Path) -> None:
        """Whatever is written, replaced, deleted and opened again, in any order: it holds what a dict would."""
        import hypothesis  # here, since only this test needs it
        from hypothesis import strategies as st

        number = st.integers(0, _NUMBERS - 1)
        version = st.integers(0, 1)
        does: list[st.SearchStrategy[tuple[Any, ...]]] = [
            st.tuples(st.just("write"), st.lists(st.tuples(number, version), min_size=1, max_size=3)),
            st.tuples(st.just("sync")),
        ]
        store = self.make_store(tmp_path)
        if can(store, SupportsDelete):
            does.append(st.tuples(st.just("delete"), number))
        if can(store, SupportsReplace):
            does.append(st.tuples(st.just("replace"), number, version))
        if self.outlives:
            does.append(st.tuples(st.just("open again")))
        directories = iter(range(10**9))

        def check(steps: list[tuple[Any, ...]]) -> None:
            directory = tmp_path / str(next(directories))
            directory.mkdir()
            _Model(self, directory).take(steps)

        few = hypothesis.settings(max_examples=30, deadline=None, database=None)
        few(hypothesis.given(st.lists(st.one_of(does), min_size=10, max_size=20))(check))()


class _Model:
    """A store and the dict that it is compared with."""

    def __init__(self, case: StoreCase, directory: Path) -> None:
        self.case = case
        self.directory = directory
        self.there: dict[str, Record] = {}
        self.store: Any = case.make_store(directory)

    def take(self, steps: list[tuple[Any, ...]]) -> None:
        """Take the steps, and compare after each."""
        self.store.open()
        try:
            for name, *arguments in steps:
                getattr(self, name.replace(" ", "_"))(*arguments)
                self.compare()
        finally:
            self.store.close()

    def record(self, number: int, version: int) -> Record:
        return self.case.record(number, data=self.case.make_data(10 * number + version))

    def write(self, what: list[tuple[int, int]]) -> None:
        records = [self.record(number, version) for number, version in what]
        failed: list[Record] = []
        try:
            self.store.write(records)
        except RecordExistsError as error:
            failed = [record for record, _ in error.failed]
        if self.case.keyed_by == "arrival":
            assert not failed, "keys by arrival are never taken"
            keys = list(self.store.keys())
            new = [key for key in keys if key not in self.there]
            assert len(new) == len(records), "each record that is written gets a key of its own"
            self.there.update(zip(new, records, strict=True))
            return
        for record in records:
            if not any(record is each for each in failed):
                self.put(self.store.key_of(record), record)

    def put(self, key: str, record: Record) -> None:
        """Note a record that was written; a store may keep the earlier one of its key, and has to keep that whole."""
        assert key in self.store, f"{key!r} was written, and is missing"
        earlier = self.there.get(key)
        if earlier is None or not is_same_record(earlier, self.store.get(key), fields=self.case.keeps):
            self.there[key] = record

    def sync(self) -> None:
        self.store.sync()

    def key(self, number: int) -> str:
        """Return the key of the record of this number; by arrival, that of the last one that is there."""
        if self.case.keyed_by == "arrival":
            return next((key for key, record in reversed(self.there.items()) if record.seq == number), "")
        key: str = self.store.key_of(self.record(number, 0))
        return key

    def delete(self, number: int) -> None:
        key = self.key(number)
        if key in self.there:
            self.store.delete(key)
            del self.there[key]

    def replace(self, number: int, version: int) -> None:
        key = self.key(number)
        if key in self.there:
            self.there[key] = self.record(number, version)
            self.store.replace(key, self.there[key])

    def open_again(self) -> None:
        self.store.close()
        self.store = self.case.make_store(self.directory)
        self.store.open()

    def compare(self) -> None:
        assert sorted(self.store.keys()) == sorted(self.there)
        assert len(self.store) == len(self.there)
        for key, record in self.there.items():
            assert key in self.store
            assert_same_record(record, self.store.get(key), fields=self.case.keeps)
