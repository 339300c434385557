"""What an author says about a store, and what the promises of a store are tested with."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from penstock.coords import DataCoordinates
from penstock.record import Record
from penstock.store import Store
from penstock.testing.component_contract import ComponentContract
from penstock.testing.equality import FIELDS, assert_same_record
from penstock.testing.samples import METADATA

_START_NS = 1_700_000_000_000_000_000


class StoreCase(ComponentContract):
    """What `StoreContract` asks an author for; all but `make_store` has a default."""

    keeps: Collection[str] = FIELDS
    """The fields of a record that `get` gives back; a store of bare arrays keeps only {"data"}."""

    keyed_by: Literal["record", "coordinates", "arrival"] = "record"
    """What makes a record's key: the "record" itself; its "coordinates", one record for each; or its "arrival".

    A store with keys by arrival appends: the same record again is kept once more, under a key of its own, no key is
    ever taken, and `keys` gives them in the order in which they came. `key_of` names the one that came last. With keys
    by coordinates, records that are written here have their channel among their coordinates.
    """

    outlives = True
    """False for a store whose content is gone when it is closed (memory)."""

    reads_live = False
    """True if another process may read while this one writes; `make_reader` opens it there."""

    several_writers = False
    """True if several processes may write into the same store at once."""

    on_disk = True
    """False for a store that writes no files of its own in this process (a server, a topic)."""

    refuses: Collection[str] = ()
    """Names of `penstock.testing.samples.ARRAYS` that it refuses by design, with a StoreError."""

    many = 2000
    """How many small records are tried; fewer for a store that is slow by design."""

    big_bytes = 64 << 20
    """Bytes of data of the largest record that is tried."""

    def make_store(self, tmp_path: Path) -> Store:
        """Return the store, as new; twice with the same directory, it is the same store opened again.

        Child processes call this too, on a fresh instance of your class: use nothing but `tmp_path`.
        """
        raise NotImplementedError("write make_store(self, tmp_path), which returns your store")

    def make_reader(self, tmp_path: Path) -> Store:
        """Return what another process, or a later one, opens to read."""
        return self.make_store(tmp_path)

    def make_bad_record(self) -> Record | None:
        """Return a record that the store must refuse, or None if it takes everything."""
        return Record(object(), channel="bad", seq=0)

    def damage(self, tmp_path: Path, key: str) -> bool:
        """Damage the record of this key where it is kept (cut its file in half), and return True; False if you cannot.

        The store is closed then.
        """
        return False

    def make_data(self, number: int) -> Any:
        """Return data that the store takes, other for each number."""
        takes = getattr(self.make_store(Path("unused")), "takes", "any")
        if takes == "bytes":
            return f"record {number}".encode() * 10
        if takes == "mapping":
            return {"number": number, "text": "Å", "list": [1, 2.5, None]}
        import numpy

        return numpy.arange(12, dtype="int32").reshape(3, 4) + number

    # What follows is not for authors.

    def make(self, tmp_path: Path) -> Store:
        """Return the store, as every contract calls it."""
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
        """Fail unless the store gives each of these back as it was."""
        for record in records:
            key = store.key_of(record)
            assert key in store, f"{key!r} is missing"
            assert_same_record(record, store.get(key), fields=self.keeps)

    def takes_arrays(self) -> bool:
        """Say whether arrays are among what it takes, going by the data that the author makes."""
        return hasattr(self.make_data(0), "dtype")
