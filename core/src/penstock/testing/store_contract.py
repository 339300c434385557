"""StoreContract: every promise of a store as a test to inherit."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import (
    CannotGetObjectError,
    PenstockError,
    StoreError,
)
from penstock.record import Record
from penstock.store import SupportsRead
from penstock.testing.any_errors import ENDING, RaisingData
from penstock.testing.component_contract import can, needs
from penstock.testing.equality import assert_same_record
from penstock.testing.samples import ARRAYS, CHANNELS, METADATA, ODD_CHANNELS, ODD_FIELDS
from penstock.testing.store_abilities import StoreAbilities
from penstock.testing.store_durability import StoreDurability
from penstock.testing.store_keys import StoreKeys
from penstock.testing.store_model import StoreModel


class StoreContract(StoreKeys, StoreAbilities, StoreModel, StoreDurability):
    """Test a store against its contract: inherit this class, and define how your store is made.

    ```python
    class TestMyStore(StoreContract):
        def make_store(self, tmp_path):
            return MyStore(path=tmp_path / "store")
    ```

    Abilities (`SupportsRead`, `SupportsDelete`, …) are detected; a store that lacks an ability may have none of its
    methods. The attributes of `StoreCase` declare deviations: `keeps`, `keyed_by`, `outlives`, `refuses`…
    """

    def test_has_the_methods_of_a_store(self, tmp_path: Path) -> None:
        """It has open, write, sync and close."""
        store = self.make_store(tmp_path)
        for name in ("open", "write", "sync", "close"):
            assert callable(getattr(store, name, None)), f"write {type(store).__name__}.{name}"

    def test_closing_twice(self, tmp_path: Path) -> None:
        """After open, close may be called any number of times."""
        store = self.make_store(tmp_path)
        store.open()
        store.close()
        store.close()

    def test_use_before_open(self, tmp_path: Path) -> None:
        """Writing to a store that is not open raises StoreError, never AttributeError, or works."""
        store = self.make_store(tmp_path)
        try:
            store.write([self.record(0)])
        except PenstockError:
            pass
        finally:
            store.close()

    def test_write_nothing(self, tmp_path: Path) -> None:
        """Writing an empty list, and syncing when nothing was written, works."""
        with self.opened(tmp_path) as store:
            store.write([])
            store.sync()
            store.sync()

    @pytest.mark.parametrize("kind", ENDING)
    @needs(SupportsRead)
    def test_works_on_after_an_error(self, tmp_path: Path, kind: str) -> None:
        """Data that raise an error of any class on use affect only their own record: it raises and keeps nothing of
        them, and then keeps later records; or it accepts them.
        """
        with self.opened(tmp_path) as store:
            try:
                store.write([self.record(0).replace(data=RaisingData(kind))])
            except BaseException:
                records = self.records(5)[1:]
                store.write(records)
                store.sync()
                self.assert_holds(store, records)
                self.assert_count(store, len(records), "the record that raised must not be counted")

    @needs(SupportsRead)
    def test_gives_back_what_was_written(self, tmp_path: Path) -> None:
        """Each record of several channels and calls is returned unchanged."""
        with self.opened(tmp_path) as store:
            records = [record for channel in ("a", "b") for record in self.records(7, channel=channel)]
            store.write(records[:5])
            store.write(records[5:6])
            store.write(records[6:])
            store.sync()
            self.assert_holds(store, records)
            self.assert_count(store, len(records), "each record that was written counts once")

    def test_can_be_used_from_another_thread_than_it_was_opened_in(self, tmp_path: Path) -> None:
        """It can be opened in one thread and used in another, as by a run."""
        errors: list[BaseException] = []
        with self.opened(tmp_path) as store:

            def write() -> None:
                try:
                    store.write(self.records(3))
                    store.sync()
                except BaseException as error:
                    errors.append(error)

            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
            if errors:
                raise errors[0]

    @pytest.mark.parametrize("name", ARRAYS)
    @needs(SupportsRead)
    def test_arrays(self, tmp_path: Path, name: str) -> None:
        """An array of any dtype, order and size is returned bit by bit, or rejected if `refuses` declares it.

        A store for other data than arrays refuses them, or keeps them unchanged; it never keeps anything else.
        """
        record = self.record(0, data=ARRAYS[name]())
        with self.opened(tmp_path) as store:
            refusal = None
            try:
                store.write([record])
            except StoreError as error:
                refusal = error
            if refusal is not None:
                declared = name in self.refuses or not self.takes_arrays()
                assert declared, f"it refuses {name!r} ({refusal}): name it in `refuses` if that is by design"
                assert not refusal.retryable, "a retry cannot help: retryable=False"
                assert len(store) == 0, "a refused record must not be stored"
                return
            assert name not in self.refuses, f"it takes {name!r}, which `refuses` names: remove it from `refuses`"
            key = store.key_of(record)
            assert key in store, f"{key!r} is missing after write() took {name!r}: store it, or raise StoreError"
            if self.takes_arrays():
                self.assert_holds(store, [record])

    @pytest.mark.parametrize("channel", CHANNELS)
    @needs(SupportsRead)
    def test_names_of_channels(self, tmp_path: Path, channel: str) -> None:
        """Channels of any name work."""
        with self.opened(tmp_path) as store:
            records = self.records(3, channel=channel)
            store.write(records)
            self.assert_holds(store, records)

    @pytest.mark.parametrize("channel", ODD_CHANNELS.values(), ids=ODD_CHANNELS)
    @needs(SupportsRead)
    def test_odd_names_of_channels(self, tmp_path: Path, channel: str) -> None:
        """A channel name that cannot be kept is rejected permanently, without its neighbours; any other is kept."""
        record, neighbour = self.record(0, channel=channel), self.record(1)
        with self.opened(tmp_path) as store:
            try:
                store.write([record, neighbour])
            except StoreError as error:
                self.assert_failed(error, [record])
                assert not error.retryable, f"a retry cannot help: retryable=False ({error})"  # noqa: PT017 - same
                self.assert_count(store, 1, "store the neighbour of a refused record, and not that record")
            else:
                self.assert_holds(store, [record])
            self.assert_holds(store, [neighbour])

    @needs(SupportsRead)
    def test_kinds_of_data(self, tmp_path: Path) -> None:
        """Data of each kind that `takes` allows, also memoryviews, are returned unchanged or rejected permanently."""
        takes = getattr(self.make_store(tmp_path), "takes", "any")
        kinds: list[Any] = [b"", b"bytes", bytearray(b"more"), memoryview(b"a view").toreadonly()]
        if takes != "bytes":
            kinds = [{}, {"number": 1, "inside": {"list": [1, 2.5, None, "Å"]}}, *(kinds if takes == "any" else ())]
        if takes == "any":
            kinds += [None, True, -7, 2.5, "Å", [1, [2, "three"]]]
        if takes == "array":
            kinds = [self.make_data(0)]
        with self.opened(tmp_path) as store:
            for number, data in enumerate(kinds):
                record = self.record(number).replace(data=data)
                try:
                    store.write([record])
                except StoreError as error:
                    assert takes == "any", f"takes={takes!r}, and refuses {data!r}: {error}"  # noqa: PT017 - raising is optional
                    assert not error.retryable, f"a retry cannot help: retryable=False ({error})"  # noqa: PT017 - same
                else:
                    self.assert_holds(store, [record])

    @pytest.mark.parametrize("name", METADATA)
    @needs(SupportsRead)
    def test_metadata(self, tmp_path: Path, name: str) -> None:
        """Metadata are returned unchanged; a store that keeps none keeps the rest of the record."""
        record = self.record(0).replace(metadata={name: METADATA[name]})
        with self.opened(tmp_path) as store:
            store.write([record])
            self.assert_holds(store, [record])

    @needs(SupportsRead)
    def test_refers_to_nothing_of_the_callers(self, tmp_path: Path) -> None:
        """After write, the caller may change arrays and metadata without changing what is stored."""
        with self.opened(tmp_path) as store:
            record, same = self.record(1), self.record(1)
            store.write([record])
            _scribble(record.data)
            if isinstance(record.metadata, dict):
                record.metadata["index"] = "changed"
            store.sync()
            assert_same_record(same, store.get(store.key_of(same)), fields=self.keeps)

    @needs(SupportsRead)
    def test_what_get_gave_may_be_changed(self, tmp_path: Path) -> None:
        """Changing a record from `get`, where that is possible, does not change the stored record."""
        with self.opened(tmp_path) as store:
            record = self.record(1)
            store.write([record])
            _scribble(store.get(store.key_of(record)).data)
            self.assert_holds(store, [self.record(1)])

    @needs(SupportsRead)
    def test_what_get_gave_outlives_the_store(self, tmp_path: Path) -> None:
        """A record from `get` stays valid when more is written and the store is closed."""
        record = self.record(1)
        with self.opened(tmp_path) as store:
            store.write([record])
            found = store.get(store.key_of(record))
            store.write([self.record(number) for number in range(2, 50)])
        assert_same_record(record, found, fields=self.keeps)

    def test_bad_record_between_good_ones(self, tmp_path: Path) -> None:
        """One record that cannot be stored is named, with its error; its neighbours are written.

        A store whose `make_bad_record` returns None accepts any object.
        """
        bad = self.make_bad_record()
        with self.opened(tmp_path) as store:
            good = self.records(2)
            if bad is None:
                store.write([good[0], self.record(5, data=object()), good[1]])
                return
            with pytest.raises(StoreError) as caught:
                store.write([good[0], bad, good[1]])
            self.assert_failed(caught.value, [bad])
            assert not caught.value.retryable, "a retry cannot help: retryable=False"
            if can(store, SupportsRead):
                self.assert_holds(store, good)
                self.assert_count(store, 2, "store the others of the list, and not the refused record")

    @pytest.mark.parametrize("name", ODD_FIELDS)
    @needs(SupportsRead)
    def test_odd_fields(self, tmp_path: Path, name: str) -> None:
        """A record with an odd number, time, coordinate or metadata comes back unchanged, or is refused by name; its
        neighbours are written.
        """
        with self.opened(tmp_path) as store:
            good, odd = self.records(2), self.record(5).replace(**ODD_FIELDS[name])
            refusal = None
            try:
                store.write([good[0], odd, good[1]])
            except StoreError as error:
                refusal = error
            self.assert_holds(store, good)
            if refusal is not None:
                assert [record for record, _ in refusal.failed] == [odd], f"failed names the one with {name}"
                assert not refusal.retryable, "a retry cannot help: retryable=False"
                return
            assert_same_record(odd, store.get(store.key_of(odd)), fields=self.keeps)

    def test_many_small_records(self, tmp_path: Path) -> None:
        """`many` small records in lists of a hundred are all stored."""
        with self.opened(tmp_path) as store:
            records = self.records(self.many)
            for start in range(0, len(records), 100):
                store.write(records[start : start + 100])
            store.sync()
            if can(store, SupportsRead):
                self.assert_count(store, len(records), "each record that was written counts once")
                self.assert_holds(store, records[::97])

    def test_large_record(self, tmp_path: Path) -> None:
        """A record of `big_bytes` is stored like any other."""
        small = self.make_data(0)
        data: Any = {"large": "x" * self.big_bytes}
        if isinstance(small, bytes):
            data = bytes(self.big_bytes)
        elif hasattr(small, "dtype"):
            import numpy

            data = numpy.arange(self.big_bytes, dtype="uint8")
        with self.opened(tmp_path) as store:
            record = self.record(0, data=data)
            store.write([record])
            store.sync()
            if can(store, SupportsRead):
                self.assert_holds(store, [record])

    @needs(SupportsRead)
    def test_damaged_record(self, tmp_path: Path) -> None:
        """A damaged record is a CannotGetObjectError, never wrong data; its neighbours can be read."""
        records = self.records(3)
        with self.opened(tmp_path) as store:
            store.write(records)
            key = store.key_of(records[1])
        if not self.damage(tmp_path, key):
            return
        with self.opened(tmp_path) as store:
            with pytest.raises(CannotGetObjectError):
                store.get(key)
            self.assert_holds(store, [records[0], records[2]])

    @needs(SupportsRead)
    def test_any_record(self, tmp_path: Path) -> None:
        """Any record that hypothesis generates is returned unchanged, or rejected with a StoreError."""
        import hypothesis  # here, since only this test needs it

        from penstock.testing import strategies

        data = strategies.arrays() if self.takes_arrays() else hypothesis.strategies.just(self.make_data(0))
        with self.opened(tmp_path) as store:
            seq = iter(range(10**9))

            def check(record: Record) -> None:
                record = record.replace(seq=next(seq))
                try:
                    store.write([record])
                except StoreError as error:
                    self.assert_failed(error, [record])
                else:
                    self.assert_holds(store, [record])

            few = hypothesis.settings(max_examples=30, deadline=None, database=None)
            few(hypothesis.given(strategies.records(data=data))(check))()


def _scribble(data: Any) -> None:
    flags = getattr(data, "flags", None)
    if flags is not None and flags.writeable:
        data[...] = 0
    elif isinstance(data, dict):
        data.clear()
