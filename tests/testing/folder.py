"""A sound store, and how to make broken ones of it: for the tests that the contract finds what is wrong with each."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from urllib.parse import quote, unquote

import attrs
import pytest

from penstock.codec import decode, encode_bytes
from penstock.coords import DataCoordinates
from penstock.errors import (
    CannotConnectToStoreError,
    CannotGetObjectError,
    CodecError,
    ObjectNotFoundError,
    RecordExistsError,
    StoreError,
)
from penstock.testing import StoreContract


def breaks(broken, *tests, raises=AssertionError, **claims):
    """Note in a list that a store breaks the promises of these tests; `claims` are attributes of its case."""

    def decorate(store):
        names = {"store": store, "__module__": store.__module__, **claims}
        case = type(f"Case{store.__name__}", (FolderCase,), names)
        setattr(sys.modules[store.__module__], case.__name__, case)  # where a child process finds it
        broken.extend(pytest.param(test, case, raises, id=f"{store.__name__} {test}") for test in tests)
        return store

    return decorate


def new_file(path, data):
    """Write a file that is whole or absent, and raise FileExistsError if there is one."""
    temporary = path.with_name(f".{os.getpid()}-{threading.get_ident()}-{os.urandom(4).hex()}")
    try:
        temporary.write_bytes(data)
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@attrs.define(kw_only=True, slots=False)
class Folder:
    """A store that keeps its promises: a file for each record. The broken ones differ in one thing."""

    takes = "any"
    path: Path
    _is_open: bool = attrs.field(default=False, init=False, eq=False)
    _watchers: list = attrs.field(factory=list, init=False, eq=False)

    def open(self):
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotConnectToStoreError(f"{self.path}: {error}") from error
        self._is_open = True

    def close(self):
        self._is_open = False

    def write(self, records):
        if not self._is_open:
            raise StoreError("not open", retryable=False)
        failed = []
        for record in records:
            try:
                self.write_one(record)
            except StoreError as error:
                failed.append((record, error))
            except (CodecError, ValueError) as error:
                failed.append((record, StoreError(str(error), retryable=False)))
            except OSError as error:
                failed.append((record, StoreError(str(error), retryable=error.errno != 36)))  # name too long
            else:
                self.tell(record)
        if failed:
            kind = RecordExistsError if all(isinstance(e, RecordExistsError) for _, e in failed) else StoreError
            raise kind(str(failed[0][1]), failed=failed, retryable=any(e.retryable for _, e in failed))

    def tell(self, record):
        for watcher, pattern, coords in list(self._watchers):
            if pattern in ("*", self.key_of(record)) and record.coords.matches(coords):
                watcher(self.key_of(record))

    def write_one(self, record):
        try:
            new_file(self.file(self.key_of(record)), self.pack(record))
        except FileExistsError:
            self.again(record)

    def again(self, record):
        if self.file(self.key_of(record)).read_bytes() != self.pack(record):
            raise RecordExistsError("another")

    def pack(self, record):
        return encode_bytes(record)

    def unpack(self, data):
        return decode(bytearray(data))

    def sync(self):
        pass

    def file(self, key):
        return self.path / f"{quote(key, safe='')}.record"

    def key_of(self, record):
        return f"{record.channel}/{record.seq:012d}"

    def get(self, key):
        if key not in self:
            raise ObjectNotFoundError(f"no {key!r}")
        try:
            return self.unpack(self.file(key).read_bytes())
        except CodecError as error:
            raise CannotGetObjectError(f"{key!r}: {error}") from error

    def keys(self, **coords):
        names = sorted(name for name in os.listdir(self.path) if name.endswith(".record"))
        keys = [unquote(name.removesuffix(".record")) for name in names]
        return iter([key for key in keys if not coords or self.get(key).coords.matches(DataCoordinates(coords))])

    def __contains__(self, key):
        return isinstance(key, str) and len(key) < 200 and self.file(key).is_file()

    def __len__(self):
        return len([name for name in os.listdir(self.path) if name.endswith(".record")])

    def delete(self, key):
        self.get(key)
        self.file(key).unlink()

    def replace(self, key, record):
        self.get(key)
        temporary = self.path / ".new"
        temporary.write_bytes(self.pack(record))
        temporary.replace(self.file(key))

    def subscribe(self, callback, pattern="*", **coords):
        entry = (callback, pattern.replace("[[]", "["), coords)
        self._watchers.append(entry)
        return lambda: self._watchers.remove(entry) if entry in self._watchers else None

    def sync_with(self, positions):
        self.sync()
        temporary = self.path / ".positions"
        temporary.write_text(json.dumps(positions))
        temporary.replace(self.path / "positions")

    def positions(self):
        file = self.path / "positions"
        return json.loads(file.read_text()) if file.exists() else {}


class FolderCase(StoreContract):
    store = Folder
    reads_live = True
    several_writers = True
    big_bytes = 1 << 17
    many = 200

    def make_store(self, tmp_path):
        return self.store(path=tmp_path / "folder")

    def make_unopenable(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        return self.store(path=tmp_path / "file" / "folder")

    def damage(self, tmp_path, key):
        path = self.store(path=tmp_path / "folder").file(key)
        path.write_bytes(path.read_bytes()[:40])
        return True
