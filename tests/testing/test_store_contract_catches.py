"""Each promise of every store is broken by one store here, and the test of that promise finds it."""

from __future__ import annotations

import functools
import json
import os
import threading

import attrs
import numpy
import pytest
from folder import Folder, FolderCase, new_file
from folder import breaks as breaks_contract

from penstock.codec import decode, encode_bytes
from penstock.coords import DataCoordinates
from penstock.errors import (
    CannotConnectToStoreError,
    CodecError,
    ObjectNotFoundError,
    RecordExistsError,
    StoreError,
)
from penstock.testing import StoreContract
from penstock.testing.store_abilities import StoreAbilities
from penstock.testing.store_durability import StoreDurability

BROKEN: list = []
"""Each as (test that has to find it, case, what the test raises): filled by `breaks`."""

breaks = functools.partial(breaks_contract, BROKEN)


class TestFolder(FolderCase):
    """The sound store passes everything, so that what fails below fails for its fault."""


# -- what every component promises -----------------------------------------------------------------------------------


@breaks("test_building_does_nothing")
@attrs.define(kw_only=True, slots=False)
class MakesItsDirectoryEarly(Folder):
    def __attrs_post_init__(self):
        self.path.mkdir(parents=True, exist_ok=True)


@breaks("test_settings_are_data")
@attrs.define(kw_only=True, eq=False, slots=False)
class ComparesByIdentity(Folder):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


@breaks("test_settings_leave_the_nodes_names_alone")
@attrs.define(kw_only=True, slots=False)
class HasAName(Folder):
    name: str = "folder"


@breaks("test_kinds_of_data_are_known")
class TakesPictures(Folder):
    takes = "pictures"


@breaks("test_settings_do_not_change")
class ChangesItsPath(Folder):
    def open(self):
        super().open()
        self.path = self.path.resolve() / "."  # a Path forgets the dot
        self.path = self.path / "inside"
        self.path.mkdir(exist_ok=True)


@breaks("test_open_that_fails")
class KeepsAFileOpen(Folder):
    def open(self):
        self._lock = os.open(self.path.parent, os.O_RDONLY)
        OPENED.append(self._lock)
        super().open()


OPENED = []


@pytest.fixture(autouse=True)
def _close_what_a_broken_store_left_open():
    yield
    while OPENED:
        os.close(OPENED.pop())


@breaks("test_open_that_fails", raises=KeyError)
class RaisesNoErrorOfOurs(Folder):
    def open(self):
        try:
            super().open()
        except CannotConnectToStoreError as error:
            raise KeyError("cannot") from error


@breaks("test_close_without_open", raises=AttributeError)
class ClosesWhatIsNotThere(Folder):
    def close(self):
        self._handle.close()


# -- what every store promises ---------------------------------------------------------------------------------------


@breaks("test_has_the_methods_of_a_store")
class CannotSync(Folder):
    sync = None


@breaks("test_closing_twice", raises=StoreError)
class ClosesOnce(Folder):
    def close(self):
        if not self._is_open:
            raise StoreError("not open")
        super().close()


@breaks("test_use_before_open", raises=AttributeError)
class WritesIntoNothing(Folder):
    def write(self, records):
        self._file.write(records)


@breaks("test_write_nothing", raises=IndexError)
class NeedsARecord(Folder):
    def write(self, records):
        self._first = records[0]
        super().write(records)


@breaks("test_gives_back_what_was_written")
class LosesTheLastOfAList(Folder):
    def write(self, records):
        super().write(records[:-1] if len(records) == 5 else records)


@breaks("test_can_be_used_from_another_thread_than_it_was_opened_in", raises=StoreError)
class KnowsOneThread(Folder):
    def open(self):
        super().open()
        self._thread = threading.get_ident()

    def write(self, records):
        if self._thread != threading.get_ident():
            raise StoreError("made in another thread")
        super().write(records)


@breaks("test_arrays")
class LosesByteOrder(Folder):
    def pack(self, record):
        if isinstance(record.data, numpy.ndarray):
            record = record.replace(data=record.data.astype(record.data.dtype.newbyteorder("=")))
        return super().pack(record)


@breaks("test_names_of_channels")
class KnowsAscii(Folder):
    def key_of(self, record):
        return super().key_of(record).encode("ascii", "ignore").decode()

    def get(self, key):
        found = super().get(key)
        return found.replace(channel=found.channel.encode("ascii", "ignore").decode())


@breaks("test_channels_that_look_alike", raises=RecordExistsError)
class ReplacesSlashes(Folder):
    def key_of(self, record):
        return f"{record.channel.replace('/', '_')}/{record.seq:012d}"


@breaks("test_odd_names_of_channels")
class TriesLongNamesAgain(Folder):
    def write_one(self, record):
        try:
            super().write_one(record)
        except OSError as error:
            raise StoreError(str(error)) from error


@breaks("test_kinds_of_data", raises=(AttributeError, TypeError))
class KnowsNoViews(Folder):
    def pack(self, record):
        if not hasattr(record.data, "dtype") and hasattr(record.data, "nbytes"):
            json.dumps(record.data)
        return super().pack(record)


@breaks("test_metadata")
class LosesNone(Folder):
    def pack(self, record):
        return super().pack(record.replace(metadata={k: v for k, v in record.metadata.items() if v is not None}))


@breaks("test_refers_to_nothing_of_the_callers")
class KeepsTheCallersRecord(Folder):
    _last = None

    def write_one(self, record):
        super().write_one(record)
        self._last = record

    def get(self, key):
        return self._last if self._last is not None and self.key_of(self._last) == key else super().get(key)


@breaks("test_what_get_gave_may_be_changed")
class GivesItsOwn(Folder):
    _given = None

    def get(self, key):
        self._given = self._given or {}
        if key not in self._given:
            self._given[key] = super().get(key)
        return self._given[key]


@breaks("test_what_get_gave_outlives_the_store")
class GivesAViewOfItsBuffer(Folder):
    def open(self):
        super().open()
        self._buffer = bytearray(1 << 20)

    def unpack(self, data):
        self._buffer[: len(data)] = data
        return decode(memoryview(self._buffer)[: len(data)])

    def write_one(self, record):
        super().write_one(record)
        self._buffer[:] = bytes(1 << 20)


@breaks("test_same_record_again", "test_same_record_twice_in_a_list")
class KeepsARecordTwice(Folder):
    def again(self, record):
        new_file(self.file(f"{self.key_of(record)} again {os.urandom(4).hex()}"), self.pack(record))


@breaks("test_taken_key", raises=StoreError)
class StopsAtATakenKey(Folder):
    def write(self, records):
        for record in records:
            if record.data is not None and self.key_of(record) in self:
                raise StoreError(f"{self.key_of(record)} is taken")
            super().write([record])


@breaks("test_taken_key")
class MixesOldAndNew(Folder):
    def again(self, record):
        old = self.get(self.key_of(record))
        if not numpy.array_equal(old.data, record.data):
            self.replace(self.key_of(record), old.replace(data=record.data // 2))


@breaks("test_bad_record_between_good_ones")
class StopsAtABadRecord(Folder):
    def write(self, records):
        for record in records:
            try:
                encode_bytes(record)
            except CodecError as error:
                raise StoreError("stopped", failed=[(record, error)], retryable=False) from error
            super().write([record])


@breaks("test_odd_fields")
class CutsNumbersTo64Bits(Folder):
    def write_one(self, record):
        super().write_one(record.replace(seq=record.seq % 2**64, time_ns=record.time_ns % 2**64))


@breaks("test_many_small_records")
class LosesOneInAHundred(Folder):
    def write_one(self, record):
        if record.seq % 100 != 97:
            super().write_one(record)


@breaks("test_large_record")
class CutsLargeRecords(Folder):
    def unpack(self, data):
        found = super().unpack(data)
        return found if len(data) < 1 << 17 else found.replace(data=found.data[: 1 << 16])


@breaks("test_unknown_keys", raises=FileNotFoundError)
class RaisesTheFilesError(Folder):
    def get(self, key):
        return self.unpack((self.path / f"{key[:100].replace('/', '_')}").with_suffix(".x").open("rb").read())


@breaks("test_damaged_record", raises=CodecError)
class RaisesTheCodecsError(Folder):
    def get(self, key):
        if key not in self:
            raise ObjectNotFoundError(key)
        return self.unpack(self.file(key).read_bytes())


@breaks("test_any_record")
class LosesTheSignOfCoordinates(Folder):
    def pack(self, record):
        coords = {axis: abs(value) if isinstance(value, int) else value for axis, value in record.coords.items()}
        return super().pack(record.replace(coords=DataCoordinates(coords)))


@breaks("test_any_sequence")
class TakesNothingUnderADeletedKey(Folder):
    """Until it is opened again."""

    _deleted = frozenset()

    def delete(self, key):
        super().delete(key)
        self._deleted |= {key}

    def write_one(self, record):
        if self.key_of(record) not in self._deleted:
            super().write_one(record)


@breaks("test_works_on_after_an_error", raises=StoreError)
class IsDeadAfterAnError(Folder):
    dead = False

    def write(self, records):
        if self.dead:
            raise StoreError("an error was the end of it")
        try:
            super().write(records)
        except BaseException:
            self.dead = True
            raise


@pytest.mark.parametrize(("test", "case", "raises"), BROKEN)
def test_broken_stores_are_found(failures, test, case, raises):
    """A store that breaks a promise fails the test of that promise."""
    found = failures(case(), test)
    assert found, f"{test} does not find what is wrong with {case.store.__name__}"
    assert [error for error in found if isinstance(error, raises)], found


def test_every_test_can_fail(untried):
    """For each of these tests of the contract there is a store that fails it; the others have a module of their own."""
    others = {name for base in (StoreAbilities, StoreDurability) for name in vars(base)}
    assert set(untried(StoreContract, BROKEN)) - others == set()


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        ((), "it refuses 'float16' .*: name it in `refuses` if that is by design"),
        (("int8",), "remove it from `refuses`"),
    ],
)
def test_what_is_refused_is_said_with_the_remedy(tmp_path, refuses, said):
    """A failure over a kind of array says what an author writes if that kind is refused by design, or is not."""

    class KnowsNoFloat16(Folder):
        def pack(self, record):
            if record.data.dtype == "float16":
                raise ValueError("no float16")
            return super().pack(record)

    class Case(FolderCase):
        store = KnowsNoFloat16

    case = Case()
    case.refuses = refuses
    with pytest.raises(AssertionError, match=said):
        case.test_arrays(tmp_path, "int8" if refuses else "float16")
