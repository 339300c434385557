"""Each promise of reading, deleting, surviving a kill… is broken by one store here, and the test of it finds that."""

from __future__ import annotations

import functools
import os
import threading

import pytest
from folder import Folder, FolderCase
from folder import breaks as breaks_contract

from penstock.errors import (
    CannotGetObjectError,
    StoreError,
)
from penstock.testing import StoreContract
from penstock.testing.store_abilities import StoreAbilities
from penstock.testing.store_durability import StoreDurability

BROKEN: list = []
"""Each as (test that has to find it, case, what the test raises): filled by `breaks`."""

breaks = functools.partial(breaks_contract, BROKEN)


# -- abilities -------------------------------------------------------------------------------------------------------


@breaks("test_keys")
class GivesPaths(Folder):
    def keys(self, **coords):
        return (self.file(key) for key in super().keys(**coords))


@breaks("test_keys_of_a_channel_are_in_order")
class SortsNumbersAsText(Folder):
    def key_of(self, record):
        return f"{record.channel}/{record.seq}"


@breaks("test_keys_by_coordinates")
class IgnoresCoordinates(Folder):
    def keys(self, **coords):
        return super().keys()


@breaks("test_read_from_another_thread", raises=StoreError)
class ReadsInOneThread(Folder):
    def open(self):
        super().open()
        self._thread = threading.get_ident()

    def get(self, key):
        if self._thread != threading.get_ident():
            raise StoreError("made in another thread")
        return super().get(key)


@breaks("test_writing_while_keys_are_read")
class CountsFromTheEnd(Folder):
    def keys(self, **coords):
        at = 0
        while at < len(self):
            yield sorted(super().keys(**coords), reverse=True)[at]
            at += 1


@breaks("test_delete")
class HidesWhatIsDeleted(Folder):
    _hidden = frozenset()

    def delete(self, key):
        self.get(key)
        self._hidden |= {key}

    def write_one(self, record):
        super().write_one(record)
        self._hidden -= {self.key_of(record)}

    def __contains__(self, key):
        return super().__contains__(key) and key not in self._hidden

    def __len__(self):
        return super().__len__() - len(self._hidden)


@breaks("test_replace")
class ReplacesInMemory(Folder):
    _new = None

    def replace(self, key, record):
        self.get(key)
        self._new = {**(self._new or {}), key: record}

    def close(self):
        self._new = None
        super().close()

    def get(self, key):
        return (self._new or {}).get(key) or super().get(key)


@breaks("test_subscribe")
class TellsForEver(Folder):
    def subscribe(self, callback, pattern="*", **coords):
        super().subscribe(callback, pattern, **coords)
        return lambda: None


@breaks("test_subscribe_to_some")
class TellsOfEverything(Folder):
    def subscribe(self, callback, pattern="*", **coords):
        return super().subscribe(callback)


@breaks("test_positions", "test_positions_survive_kill")
class KeepsPositionsInMemory(Folder):
    _positions = None

    def sync_with(self, positions):
        self.sync()
        self._positions = positions

    def positions(self):
        return self._positions or {}


# -- crashes, full disks, other processes ----------------------------------------------------------------------------


@breaks("test_is_there_when_opened_again")
class BeginsAnew(Folder):
    def open(self):
        super().open()
        for file in self.path.iterdir():
            file.unlink()


@breaks("test_synced_survives_kill", "test_killed_in_mid_write")
class WritesWhenItIsClosed(Folder):
    """`sync` does nothing: what a kill finds out."""

    _waiting = None

    def write_one(self, record):
        self._waiting = [*(self._waiting or ()), record]

    def close(self):
        for record in self._waiting or ():
            Folder.write_one(self, record)
        self._waiting = None
        super().close()

    def __contains__(self, key):
        return super().__contains__(key) or any(self.key_of(record) == key for record in self._waiting or ())

    def __len__(self):
        return super().__len__() + len(self._waiting or ())

    def get(self, key):
        waiting = [record for record in self._waiting or () if self.key_of(record) == key]
        return waiting[0] if waiting else super().get(key)


@breaks("test_killed_at_every_step", raises=CannotGetObjectError)
class WritesInPlace(Folder):
    def write_one(self, record):
        path = self.file(self.key_of(record))
        if path.exists():
            self.again(record)
        else:
            path.write_bytes(self.pack(record))


@breaks("test_killed_at_every_step")
class KeepsPositionsFirst(Folder):
    """The position is durable before the records are: a kill between the two loses these."""

    _waiting = None

    def write_one(self, record):
        self._waiting = [*(self._waiting or ()), record]

    def sync(self):
        for record in self._waiting or ():
            Folder.write_one(self, record)
        self._waiting = None

    def sync_with(self, positions):
        waiting, self._waiting = self._waiting, None
        super().sync_with(positions)
        self._waiting = waiting
        self.sync()

    def close(self):
        self.sync()
        super().close()


@breaks("test_full_disk")
class SwallowsAFullDisk(Folder):
    def write_one(self, record):
        try:
            super().write_one(record)
        except OSError as error:
            if error.errno == 36:
                raise


@breaks("test_full_disk")
class GivesUpWhenFull(Folder):
    def write(self, records):
        try:
            super().write(records)
        except StoreError as error:
            raise StoreError(str(error), failed=error.failed, retryable=False) from error


@breaks("test_full_disk")
class LeavesHalfFilesBehind(Folder):
    def write_one(self, record):
        path = self.file(self.key_of(record))
        temporary = path.with_name(f".{os.urandom(4).hex()}")
        temporary.write_bytes(self.pack(record))
        os.link(temporary, path)
        temporary.unlink()


class TakesOnlySmallGrids(Folder):
    """A sound store of one kind of data: whatever the contract made up by itself would be refused."""

    def pack(self, record):
        if getattr(record.data, "shape", None) != (3, 4):
            raise ValueError("no grid of 3 by 4")
        return super().pack(record)


class CaseTakesOnlySmallGrids(FolderCase):
    store = TakesOnlySmallGrids


def test_a_full_disk_is_met_with_the_data_of_the_author(tmp_path):
    """The disk is filled with what `make_data` gives, so that a store of small fixed records passes."""
    CaseTakesOnlySmallGrids().test_full_disk(tmp_path)


@breaks("test_read_while_it_is_written")
class ListsWhenItIsOpened(Folder):
    def open(self):
        super().open()
        self._there = set(super().keys())

    def write_one(self, record):
        super().write_one(record)
        self._there.add(self.key_of(record))

    def __contains__(self, key):
        return key in self._there

    def __len__(self):
        return len(self._there)


@breaks("test_several_writers")
class SweepsOthersAway(Folder):
    def open(self):
        super().open()
        self._mine = set()

    def write_one(self, record):
        super().write_one(record)
        self._mine.add(self.file(self.key_of(record)).name)

    def close(self):
        if self._is_open and self._mine:
            for name in os.listdir(self.path):
                if name not in self._mine:
                    (self.path / name).unlink(missing_ok=True)
        super().close()


@pytest.mark.parametrize(("test", "case", "raises"), BROKEN)
def test_broken_stores_are_found(failures, test, case, raises):
    """A store that breaks a promise fails the test of that promise."""
    found = failures(case(), test)
    assert found, f"{test} does not find what is wrong with {case.store.__name__}"
    assert [error for error in found if isinstance(error, raises)], found


def test_every_test_can_fail(untried):
    """For each of these tests of the contract there is a store that fails it."""
    names = {name for base in (StoreAbilities, StoreDurability) for name in vars(base)}
    assert set(untried(StoreContract, BROKEN)) & names == set()


def test_a_case_made_in_a_function_is_told_where_to_move(tmp_path):
    """A contract that no child process could find says so, instead of failing for a reason that nobody understands."""

    class Here(FolderCase):
        pass

    with pytest.raises(pytest.fail.Exception, match="defined in a function, where no child process finds it"):
        Here().test_synced_survives_kill(tmp_path)
