"""The promises about keys: which records share one, what happens to a taken one, and unknown ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import ObjectNotFoundError, RecordExistsError
from penstock.record import Record
from penstock.short_text import short
from penstock.store import SupportsRead
from penstock.testing.component_contract import needs
from penstock.testing.equality import assert_same_record, is_same_record
from penstock.testing.samples import CHANNELS
from penstock.testing.store_case import StoreCase


class StoreKeys(StoreCase):
    """Tests of records with the same, similar, taken and unknown keys."""

    @needs(SupportsRead)
    def test_channels_that_look_alike(self, tmp_path: Path) -> None:
        """Records of the same number from channels with similar names are not mixed up."""
        with self.opened(tmp_path) as store:
            alike = [self.record(7, channel=channel, data=self.make_data(n)) for n, channel in enumerate(CHANNELS)]
            store.write(alike)
            self.assert_count(store, len(alike), "the key must tell channels with similar names apart")
            self.assert_holds(store, alike)

    @needs(SupportsRead)
    def test_same_record_again(self, tmp_path: Path) -> None:
        """The same record again, as after a crash, is either stored once, or a RecordExistsError that names it.

        With keys by arrival it is stored twice.
        """
        with self.opened(tmp_path) as store:
            record = self.record(0)
            store.write([record])
            if self.keyed_by == "arrival":
                first = store.key_of(record)
                store.write([record])
                self._assert_appended(store, [first, store.key_of(record)], [record, record])
                return
            self._accepts(store, [record], record)
            self.assert_holds(store, [record])
            self.assert_count(store, 1, "store a repeated record once")

    @needs(SupportsRead)
    def test_same_record_twice_in_a_list(self, tmp_path: Path) -> None:
        """The same record twice in one list is stored once, and does not affect the others of the list.

        With keys by arrival it is stored twice.
        """
        with self.opened(tmp_path) as store:
            record, neighbour = self.record(0), self.record(1)
            if self.keyed_by == "arrival":
                store.write([record, record, neighbour])
                self._assert_appended(store, list(store.keys()), [record, record, neighbour])
                return
            self._accepts(store, [record, record, neighbour], record)
            self.assert_holds(store, [record, neighbour])
            self.assert_count(store, 2, "store a repeated record once, and its neighbours")

    @needs(SupportsRead)
    def test_taken_key(self, tmp_path: Path) -> None:
        """Another record under an existing key never leaves a mixture, nor affects its neighbours.

        With keys by arrival no key is taken.
        """
        with self.opened(tmp_path) as store:
            first, neighbour = self.record(0), self.record(1)
            second = self.record(0, data=self.make_data(99))
            store.write([first])
            key = store.key_of(first)
            if self.keyed_by == "arrival":
                store.write([second, neighbour])
                self._assert_appended(
                    store, [key, store.key_of(second), store.key_of(neighbour)], [first, second, neighbour]
                )
                return
            if store.key_of(second) != key:  # its keys depend on the data: both can be stored
                store.write([second, neighbour])
                self.assert_holds(store, [first, second, neighbour])
                return
            kept = [first, second] if self._accepts(store, [second, neighbour], second) else [first]
            self.assert_holds(store, [neighbour])
            self.assert_count(store, 2, "a taken key holds one record")
            found = store.get(key)
            assert any(is_same_record(record, found, fields=self.keeps) for record in kept), (
                f"get({key!r}) returned {short(found)}, expected one of the records written under this key, complete: "
                "replace a record whole, or refuse the new one with RecordExistsError"
            )

    @needs(SupportsRead)
    def test_unknown_keys(self, tmp_path: Path) -> None:
        """`get` of a missing record, however odd the key, is an ObjectNotFoundError, and `in` returns False."""
        with self.opened(tmp_path) as store:
            store.write([self.record(0)])
            for key in ("", "nothing", "../../etc/passwd", "/etc/passwd", "a\x00b", "x" * 5000, "\n", "camera", "."):
                assert key not in store, f"{short(key)} is `in` the store, expected False: it was never written"
                with pytest.raises(ObjectNotFoundError):
                    store.get(key)
            assert 3 not in store, "3 is `in` the store, expected False for what is not a key"

    def _accepts(self, store: Any, records: Sequence[Record], repeated: Record) -> bool:
        """Write records; return False for a RecordExistsError, and fail unless it names just the repeated one."""
        try:
            store.write(records)
        except RecordExistsError as error:
            self.assert_failed(error, [repeated])
            return False
        return True

    def _assert_appended(self, store: Any, keys: Sequence[str], records: Sequence[Record]) -> None:
        """Fail unless the store holds exactly these, in this order, each under a separate key."""
        self.assert_keys(store.keys(), keys, "keys by arrival are in the order of arrival, and key_of names the last")
        self.assert_count(store, len(records), "with keys by arrival, each write adds a record")
        assert len(set(keys)) == len(keys), f"keys {short(keys)} are not unique: give each arrival a key of its own"
        for key, record in zip(keys, records, strict=True):
            assert_same_record(record, store.get(key), fields=self.keeps)
