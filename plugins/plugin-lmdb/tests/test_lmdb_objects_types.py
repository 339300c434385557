"""LMDBStore: types of one's own, sparse matrices, pickles and records."""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy
import pytest

from penstock.record import Record
from penstock_lmdb import (
    CannotGetObjectError,
    Encoder,
    LmdbRecordStore,
    LMDBStore,
)


class Own:
    def __init__(self, number):
        self.number = number


def test_types_of_ones_own(make, tmp_path):
    """A named encoder keeps objects of a type; a store without it gives an error with the name."""
    encoder = Encoder("test.own", Own, lambda own: own.number, Own)
    store = make(encoders=[encoder])
    store.put([Own(3), 4], "own")
    assert store.get("own")[0].number == 3
    store.close()
    with LMDBStore(tmp_path, "run", load=True) as plain:
        with pytest.raises(CannotGetObjectError, match=r"test\.own"):
            plain.get("own")
        plain.register(encoder)
        assert plain.get("own")[0].number == 3


def test_sparse_matrices(make):
    """Sparse matrices of scipy are kept as they are."""
    sparse = pytest.importorskip("scipy.sparse")
    store, matrix = make(), sparse.random(20, 30, 0.1, "csr")
    store.put({"m": matrix}, "sparse")
    store.commit()
    found = store.get("sparse")["m"]
    assert type(found) is type(matrix)
    assert (found != matrix).nnz == 0


def test_pickle_only_where_it_was_asked_for(make, tmp_path):
    """A store pickles only with pickle=True, and unpickles only with it and only a file that was written with it."""
    store = make("pickled", pickle=True)
    store.put({1: Own(5)}, "own")
    assert store.get("own")[1].number == 5
    store.close()
    with (
        LMDBStore(tmp_path, "pickled", load=True) as plain,
        pytest.raises(CannotGetObjectError, match=r"unpickling runs code.*pickle=True"),
    ):
        plain.get("own")
    with LMDBStore(tmp_path, "pickled", load=True, pickle=True) as trusting:
        assert trusting.get("own")[1].number == 5
    with lmdb.open(str(tmp_path / "pickled"), max_dbs=20) as env, env.begin() as transaction:
        value = next(value for _, value in transaction.cursor(env.open_db(b"records", txn=transaction)))
    _plant(tmp_path / "planted", value)
    with LMDBStore(tmp_path, "planted", load=True, pickle=True) as trusting, pytest.raises(CannotGetObjectError):
        trusting.get("planted")


def _plant(path: Path, value: bytes):
    with LMDBStore(path.parent, path.name) as store:
        store.put(1, "x")
    with lmdb.open(str(path), max_dbs=20) as env, env.begin(write=True) as transaction:
        transaction.put(b"planted", value, db=env.open_db(b"records", txn=transaction))


def test_records_keep_their_fields(make):
    """A record comes back as a record with its coordinates, time and metadata."""
    store = make()
    store.put(Record(numpy.arange(3), channel="cam", seq=7, time_ns=5, coords={"z": 1}, metadata={"gain": 2}), "record")
    store.commit()
    found = store.get("record")
    assert (found.channel, found.seq, found.time_ns, found.coords, dict(found.metadata)) == (
        "cam",
        7,
        5,
        {"z": 1},
        {"gain": 2},
    )


def test_the_component_reads_what_was_put(make, tmp_path):
    """A file of objects is read by LmdbRecordStore: data, name and time."""
    with make() as store:
        store.put(numpy.arange(3), "frame", "id")
    records = LmdbRecordStore(path=tmp_path / "run", readonly=True)
    records.open()
    assert list(records.keys()) == ["id"]
    assert records.get("id").channel == "frame"
    assert records.get("id").data.sum() == 3
    records.close()
