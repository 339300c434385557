"""The promises of the abilities that a store may have: reading, deleting, replacing, notifying, transactions."""

from __future__ import annotations

import glob
import queue
import threading
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import CoordinatesError, ObjectNotFoundError
from penstock.short_text import short
from penstock.store import SupportsDelete, SupportsRead, SupportsReplace, SupportsSubscribe, SupportsTransaction
from penstock.testing.component_contract import needs
from penstock.testing.equality import assert_same_record
from penstock.testing.store_case import StoreCase

_PATIENCE_S = 10.0


class StoreAbilities(StoreCase):
    """Tests of the `Supports…` protocols; a store that lacks an ability must lack all of it."""

    @needs(SupportsRead)
    def test_keys(self, tmp_path: Path) -> None:
        """Keys are text, unique, as many as records, the same at each call, and equal to those of `key_of`."""
        with self.opened(tmp_path) as store:
            assert list(store.keys()) == [], "a new store must be empty"
            assert len(store) == 0, "a new store must be empty"
            records = [*self.records(5, channel="b"), *self.records(5, channel="a")]
            store.write(records)
            keys = list(store.keys())
            assert all(isinstance(key, str) for key in keys), "keys must be texts"
            assert sorted(keys) == sorted(store.key_of(record) for record in records), "keys() and key_of() must agree"
            assert list(store.keys()) == keys, "keys() must return the same order at each call"
            assert all(key in store for key in keys), "a key of keys() must be `in` the store"

    @needs(SupportsRead)
    def test_keys_of_a_channel_are_in_order(self, tmp_path: Path) -> None:
        """The keys of one channel are in time order, even if there are many.

        With keys by coordinates, this holds for records that differ only in time.
        """
        with self.opened(tmp_path) as store:
            records = self.records(min(1500, self.many))
            store.write(records)
            if self.keyed_by != "coordinates":
                self.assert_keys(store.keys(), map(store.key_of, records), "keys() must be in time order")
                return
            for name in ("n0", "n1", "n2"):
                expected = [store.key_of(record) for record in records if record.coords["name"] == name]
                self.assert_keys(store.keys(name=name), expected, f"keys(name={name!r}) must be in time order")

    @needs(SupportsRead)
    def test_keys_by_coordinates(self, tmp_path: Path) -> None:
        """`keys` with coordinates returns the keys of the matching records, and of no others.

        If it keeps no coordinates, the call is a CoordinatesError: an empty answer would be wrong.
        """
        with self.opened(tmp_path) as store:
            records = self.records(9)
            store.write(records)
            if "coords" not in self.keeps:
                with pytest.raises(CoordinatesError):
                    list(store.keys(name="n1"))
                return
            expected = [store.key_of(record) for record in records if record.coords["name"] == "n1"]
            remedy = "return the keys of the records that have these coordinates"
            self.assert_keys(sorted(store.keys(name="n1")), sorted(expected), f"keys(name='n1'): {remedy}")
            self.assert_keys(
                store.keys(name="n1", time=4), [store.key_of(records[4])], f"keys(name='n1', time=4): {remedy}"
            )
            self.assert_keys(store.keys(name="nobody"), [], f"keys(name='nobody'): {remedy}")

    @needs(SupportsRead)
    def test_read_from_another_thread(self, tmp_path: Path) -> None:
        """While one thread writes, another finds each record, complete, as soon as `write` has returned."""
        records = self.records(min(300, self.many))
        written = 0
        is_over = threading.Event()
        errors: list[BaseException] = []
        with self.opened(tmp_path) as store:

            def look() -> None:
                try:
                    while not is_over.is_set():
                        count = written
                        self.assert_holds(store, records[max(0, count - 3) : count])
                        length = len(store)
                        assert length >= count, (
                            f"len() is {length} in another thread, expected {count} at least: count a record before "
                            "write() returns"
                        )
                        found = list(store.keys())
                        assert len(found) >= count, (
                            f"keys() returned {len(found)} keys in another thread, expected {count} at least: list a "
                            "record before write() returns"
                        )
                        twice = len(found) - len(set(found))
                        assert not twice, f"keys() returned {twice} keys twice, expected each once: iterate a snapshot"
                except BaseException as error:
                    errors.append(error)

            thread = threading.Thread(target=look)
            thread.start()
            try:
                while written < len(records) and not errors:
                    store.write(records[written : written + 5])
                    written += 5
            finally:
                is_over.set()
                thread.join()
            if errors:
                raise errors[0]
            self.assert_holds(store, records)

    @needs(SupportsRead)
    def test_writing_while_keys_are_read(self, tmp_path: Path) -> None:
        """Records may be written and deleted while the keys are iterated; no key comes twice."""
        with self.opened(tmp_path) as store:
            store.write(self.records(20))
            seen = []
            for number, key in enumerate(store.keys()):
                seen.append(key)
                if number < 5:
                    store.write([self.record(100 + number)])
            twice = len(seen) - len(set(seen))
            assert not twice, f"keys() returned {twice} keys twice, expected each once: iterate a snapshot"
            missing = {store.key_of(record) for record in self.records(20)} - set(seen)
            assert not missing, (
                f"keys() left out {short(sorted(missing))}, expected all keys that were there when it was called: "
                "iterate a snapshot"
            )

    @needs(SupportsRead, SupportsDelete)
    def test_delete(self, tmp_path: Path) -> None:
        """A deleted record is gone, also after reopening; its neighbours stay, and its key can be used again."""
        records = self.records(4)
        with self.opened(tmp_path) as store:
            store.write(records)
            key = store.key_of(records[1])
            store.delete(key)
            assert key not in store, "a deleted key must not be `in` the store"
            assert len(store) == 3, f"{len(store)} records, and not 3, after one of 4 was deleted"
            with pytest.raises(ObjectNotFoundError):
                store.get(key)
            with pytest.raises(ObjectNotFoundError):
                store.delete(key)
            self.assert_holds(store, [records[0], *records[2:]])
        if self.outlives:
            with self.opened(tmp_path) as store:
                assert key not in store, "a deleted record came back"
                store.write([records[1]])
                self.assert_holds(store, records)

    @needs(SupportsRead, SupportsReplace)
    def test_replace(self, tmp_path: Path) -> None:
        """After a replacement the key returns the new record; a missing record cannot be replaced."""
        with self.opened(tmp_path) as store:
            records = self.records(3)
            store.write(records)
            key = store.key_of(records[1])
            new = self.record(1, data=self.make_data(77))
            store.replace(key, new)
            assert_same_record(new, store.get(key), fields=self.keeps)
            self.assert_count(store, 3, "replace() must not add a record")
            if self.keyed_by == "arrival":
                assert store.key_of(new) == key, "the key is that of the new record now"
            self.assert_holds(store, [records[0], records[2]])
            with pytest.raises(ObjectNotFoundError):
                store.replace("nothing", new)
            assert "nothing" not in store, (
                "'nothing' is `in` the store after replace() raised ObjectNotFoundError: replace() must not add a key"
            )
        if self.outlives:
            with self.opened(tmp_path) as store:
                assert_same_record(new, store.get(key), fields=self.keeps)
                self.assert_count(store, 3, "replace() must not add a record, also after reopening")

    @needs(SupportsRead, SupportsSubscribe)
    def test_subscribe(self, tmp_path: Path) -> None:
        """A subscriber is notified of each new key once, until the subscription ends."""
        with self.opened(tmp_path) as store:
            told: queue.Queue[str] = queue.Queue()
            end = store.subscribe(told.put)
            records = self.records(4)
            store.write(records[:3])
            keys = [told.get(timeout=_PATIENCE_S) for _ in range(3)]
            self.assert_keys(keys, map(store.key_of, records[:3]), "call the subscriber once per new key, in order")
            end()
            end()
            store.write(records[3:])
            store.sync()
            assert told.empty(), (
                f"the subscriber was called with {told.queue[0]!r} after its subscription had ended, expected no call: "
                "the function that subscribe() returns ends it"
            )

    @needs(SupportsRead, SupportsSubscribe)
    def test_subscribe_to_some(self, tmp_path: Path) -> None:
        """A subscriber to a pattern of keys, or to coordinates, is notified of matching keys, and of no others.

        A key by arrival is known only after the write: the pattern is the key of an earlier record, which never comes.
        """
        records = self.records(6)
        by_arrival = self.keyed_by == "arrival"
        with self.opened(tmp_path) as store:
            if by_arrival:
                store.write(records[:1])
            keys = [store.key_of(record) for record in records]
            one: queue.Queue[str] = queue.Queue()
            some: queue.Queue[str] = queue.Queue()
            every: queue.Queue[str] = queue.Queue()
            store.subscribe(one.put, glob.escape(keys[0 if by_arrival else 4]))
            if "coords" in self.keeps:
                store.subscribe(some.put, name="n1")
            store.subscribe(every.put)
            store.write(records)
            if by_arrival:
                keys = [store.key_of(record) for record in records]
            remedy = "call a subscriber once for each new key that matches, in order"
            self.assert_keys([every.get(timeout=_PATIENCE_S) for _ in records], keys, remedy)
            if not by_arrival:
                self.assert_keys([one.get(timeout=_PATIENCE_S)], [keys[4]], remedy)
            if "coords" in self.keeps:
                self.assert_keys([some.get(timeout=_PATIENCE_S) for _ in range(2)], [keys[1], keys[4]], remedy)
            self.assert_keys(one.queue, [], "a subscriber to a pattern is not called for other keys")
            self.assert_keys(some.queue, [], "a subscriber to coordinates is not called for other keys")

    @needs(SupportsTransaction)
    def test_positions(self, tmp_path: Path) -> None:
        """There are no positions at first, then those of the last `sync_with`, also after reopening."""
        positions = {"kafka": {"topic": [[0, 17], [1, 3]]}, "files": 12, "name": "Å"}
        with self.opened(tmp_path) as store:
            self._assert_positions(store, {}, "a new store has no positions")
            store.write(self.records(2))
            store.sync_with({"files": 1})
            store.write([self.record(3)])
            store.sync_with(positions)
            self._assert_positions(store, positions, "sync_with() replaces the positions before it")
        if self.outlives:
            with self.opened(tmp_path) as store:
                self._assert_positions(store, positions, "write them with the records, so that they outlive the store")

    def _assert_positions(self, store: Any, expected: dict[str, Any], remedy: str) -> None:
        found = dict(store.positions())
        assert found == expected, f"positions() returned {found}, expected {expected}: {remedy}"
