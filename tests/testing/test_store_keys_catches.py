"""Keys by arrival and by coordinates: sound stores keep the contract, and what is wrong with others is found."""

from __future__ import annotations

import functools
import hashlib

import pytest
from folder import Folder, FolderCase, new_file
from folder import breaks as breaks_contract

from penstock.errors import RecordExistsError

BROKEN: list = []
"""Each as (test that has to find it, case, what the test raises): filled by `breaks`."""

breaks = functools.partial(breaks_contract, BROKEN, many=60)


def name_of(record):
    """Return text that tells a record's channel and number from others, whatever they are."""
    return hashlib.sha256(repr((record.channel, record.seq)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Appending(Folder):
    """A store that only appends: a file for each record that is written, numbered as they come."""

    def write_one(self, record):
        while True:
            try:
                new_file(self.file(self.next_key(record)), self.pack(record))
                return
            except FileExistsError:
                continue  # another writer was faster

    def next_key(self, record):
        last = max((int(key.partition("-")[0]) for key in self.keys()), default=-1)
        return f"{last + 1:012d}-{name_of(record)}"

    def key_of(self, record):
        found = [key for key in self.keys() if key.endswith(name_of(record))]
        return found[-1] if found else self.next_key(record)


class ByCoordinates(Folder):
    """A store with one record for each coordinates."""

    def key_of(self, record):
        return "/".join(f"{axis}={value:012d}" if isinstance(value, int) else f"{axis}={value}"
                        for axis, value in sorted(record.coords.items()))  # fmt: skip


class TestAppending(FolderCase):
    """The sound store that appends passes everything."""

    store = Appending
    keyed_by = "arrival"
    many = 60


class TestByCoordinates(FolderCase):
    """The sound store with keys by coordinates passes everything."""

    store = ByCoordinates
    keyed_by = "coordinates"
    many = 60


@breaks("test_same_record_again", "test_same_record_twice_in_a_list", keyed_by="arrival")
class DropsTheSameRecord(Appending):
    def write_one(self, record):
        if self.key_of(record) not in self:
            super().write_one(record)


@breaks("test_taken_key", "test_any_sequence", keyed_by="arrival", raises=(AssertionError, RecordExistsError))
class RefusesTheSameName(Appending):
    def write_one(self, record):
        if self.key_of(record) in self:
            raise RecordExistsError("it is there")
        super().write_one(record)


@breaks("test_same_record_again", keyed_by="arrival")
class NamesTheFirst(Appending):
    def key_of(self, record):
        found = [key for key in self.keys() if key.endswith(name_of(record))]
        return found[0] if found else self.next_key(record)


@breaks("test_keys_of_a_channel_are_in_order", "test_same_record_twice_in_a_list", keyed_by="arrival")
class GivesTheLastFirst(Appending):
    def keys(self, **coords):
        return reversed(list(super().keys(**coords)))


@breaks("test_killed_at_every_step", keyed_by="arrival")
class DropsWhatIsThereWhenItIsOpened(Appending):
    def open(self):
        super().open()
        self._there = set(self.keys())

    def write_one(self, record):
        if self.key_of(record) not in self._there:
            super().write_one(record)


@breaks("test_replace", keyed_by="arrival")
class ForgetsTheNameOfWhatIsReplaced(Appending):
    _replaced = frozenset()

    def replace(self, key, record):
        super().replace(key, record)
        self._replaced |= {key}

    def key_of(self, record):
        key = super().key_of(record)
        return self.next_key(record) if key in self._replaced else key


@breaks("test_subscribe_to_some", keyed_by="arrival")
class TellsOfEverything(Appending):
    def subscribe(self, callback, pattern="*", **coords):
        return super().subscribe(callback)


@breaks("test_keys_of_a_channel_are_in_order", keyed_by="coordinates")
class SortsNumbersAsText(ByCoordinates):
    def key_of(self, record):
        return "/".join(f"{axis}={value}" for axis, value in sorted(record.coords.items()))


@breaks("test_several_writers", keyed_by="coordinates")
class LeavesAnAxisOut(ByCoordinates):
    def key_of(self, record):
        return super().key_of(record.replace(coords={"time": record.coords["time"]}))


@pytest.mark.parametrize(("test", "case", "raises"), BROKEN)
def test_broken_stores_are_found(failures, test, case, raises):
    """A store that breaks a promise of its keys fails the test of that promise."""
    found = failures(case(), test)
    assert found, f"{test} does not find what is wrong with {case.store.__name__}"
    assert [error for error in found if isinstance(error, raises)], found
