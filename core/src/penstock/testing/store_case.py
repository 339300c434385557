"""StoreCase: the declarations of an author about a store, and the records that the store is tested with."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from penstock.coords import DataCoordinates
from penstock.errors import StoreError
from penstock.record import Record
from penstock.short_text import short
from penstock.store import Store
from penstock.testing.component_contract import ComponentContract
from penstock.testing.equality import FIELDS, assert_same_record
from penstock.testing.samples import METADATA

_START_NS = 1_700_000_000_000_000_000


class StoreCase(ComponentContract):
    """The declarations of an author for `StoreContract`; all but `make_store` have a default."""

    keeps: Collection[str] = FIELDS
    """The fields of a record that `get` returns; a store of bare arrays keeps only {"data"}."""

    keyed_by: Literal["record", "coordinates", "arrival"] = "record"
    """The origin of a key: the "record" itself; its "coordinates", one record for each; or its "arrival".

    A store with keys by arrival appends: a repeated record is stored again under a new key, no key is ever taken, and
    `keys` returns them in the order of arrival. `key_of` returns the key of the last one. With keys by coordinates, the
    records of these tests have their channel among their coordinates.
    """

    outlives = True
    """False for a store whose content is gone when it is closed (memory)."""

    reads_live = False
    """True if another process may read while this one writes; `make_reader` opens it there."""

    several_writers = False
    """True if several processes may write to the same store at once."""

    on_disk = True
    """False for a store that writes no files of its own in this process (a server, a topic)."""

    refuses: Collection[str] = ()
    """Names of `penstock.testing.samples.ARRAYS` that it refuses by design, with a StoreError."""

    many = 2000
    """The number of small records that are tried; fewer for a store that is slow by design."""

    big_bytes = 64 << 20
    """Bytes of data of the largest record that is tried."""

    def make_store(self, tmp_path: Path) -> Store:
        """Return a new store; a second call with the same directory returns the same store, to be reopened.

        Child processes call this too, on a fresh instance of your class: use nothing but `tmp_path`.
        """
        raise NotImplementedError("write make_store(self, tmp_path), which returns your store")

    def make_reader(self, tmp_path: Path) -> Store:
        """Return the store that another process, or a later one, opens for reading."""
        return self.make_store(tmp_path)

    def make_bad_record(self) -> Record | None:
        """Return a record that the store must refuse, or None if it accepts all."""
        return Record(object(), channel="bad", seq=0)

    def damage(self, tmp_path: Path, key: str) -> bool:
        """Damage the stored record of this key (cut its file in half), and return True; False if that is impossible.

        The store is closed at that time.
        """
        return False

    def make_data(self, number: int) -> Any:
        """Return data that the store accepts, different for each number."""
        takes = getattr(self.make_store(Path("unused")), "takes", "any")
        if takes == "bytes":
            return f"record {number}".encode() * 10
        if takes == "mapping":
            return {"number": number, "text": "Å", "list": [1, 2.5, None]}
        import numpy

        return numpy.arange(12, dtype="int32").reshape(3, 4) + number

    # Not for authors.

    def make(self, tmp_path: Path) -> Store:
        """Return a new store, under the name that all contracts share."""
        return self.make_store(tmp_path)

    def record(self, number: int, *, channel: str = "camera", data: Any = None) -> Record:
        """Return the record of a number, the same in every process."""
        coords: dict[str, int | str] = {"time": number, "name": f"n{number % 3}"}
        if self.keyed_by == "coordinates":
            coords["channel"] = channel
        return Record(
            self.make_data(number) if data is None else data,
            channel=channel,
            seq=number,
            time_ns=_START_NS + number,
            coords=DataCoordinates(coords),
            metadata={**METADATA, "index": number},
        )

    def records(self, count: int, *, channel: str = "camera") -> list[Record]:
        """Return the first `count` records of a channel."""
        return [self.record(number, channel=channel) for number in range(count)]

    @contextlib.contextmanager
    def opened(self, tmp_path: Path, *, reader: bool = False) -> Iterator[Any]:
        """Open the store for a block; closing never hides the first error."""
        store = self.make_reader(tmp_path) if reader else self.make_store(tmp_path)
        try:
            store.open()
            yield store
        finally:
            store.close()

    def assert_holds(self, store: Any, records: Sequence[Record]) -> None:
        """Fail unless the store returns each of these unchanged."""
        for record in records:
            key = store.key_of(record)
            assert key in store, f"{key!r} is missing: `in` must find the key of each record that was written"
            assert_same_record(record, store.get(key), fields=self.keeps)

    def assert_count(self, store: Any, expected: int, remedy: str) -> None:
        """Fail unless `len` of the store is this number; `remedy` tells the author what to do."""
        found = len(store)
        assert found == expected, f"len() is {found}, expected {expected}: {remedy}"

    def assert_keys(self, found: Iterable[str], expected: Iterable[str], remedy: str) -> None:
        """Fail unless these are the expected keys, in this order; `remedy` tells the author what to do."""
        got, wanted = list(found), list(expected)
        if got == wanted:
            return
        missing, extra = [key for key in wanted if key not in got], [key for key in got if key not in wanted]
        if missing or extra:
            difference = f"{short(missing)} are missing, and {short(extra)} are too many"
        else:
            difference = f"they come as {short(got)}, expected {short(wanted)}"
        raise AssertionError(f"{len(got)} keys, expected {len(wanted)}; {difference}: {remedy}")

    def assert_failed(self, error: StoreError, expected: Sequence[Record]) -> None:
        """Fail unless a StoreError names exactly these records, each with its error."""
        failed = [record for record, _ in error.failed]
        got, wanted = ([f"{record.channel}:{record.seq}" for record in each] for each in (failed, expected))
        assert failed == list(expected), (
            f"StoreError.failed names {short(got)}, expected {short(wanted)} (channel:seq): "
            "name exactly those records of the list that were not written"
        )
        for record, reason in error.failed:
            assert isinstance(reason, BaseException), (
                f"StoreError.failed has {short(reason)} as the error of seq {record.seq}, expected an exception: "
                "pass failed=[(record, error)]"
            )

    def takes_arrays(self) -> bool:
        """Return whether it accepts arrays, judging by the data that the author makes."""
        return hasattr(self.make_data(0), "dtype")
