"""Export the records of a file to formats of other programs: npy, npz and json."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy

from penstock.errors import CannotGetObjectError, CodecError, StoreError
from penstock.record import Record
from penstock_lmdb.object_value import Values
from penstock_lmdb.store import LmdbRecordStore

LeftOut = list[tuple[str, str]]
_LONGEST_NAME = 180
_NOT_FINITE = re.compile("NaN|Infinity")


def export(path: Path, target: Path, form: str, prefix: str = "") -> tuple[int, LeftOut]:
    """Write the records of a file to another place; return their number, and those that were skipped with the reason.

    Raises:
        StoreError: the target exists, or cannot be written.
        CannotConnectToStoreError: the file cannot be opened.
    """
    if target.exists() and (form != "npy" or any(target.iterdir())):
        raise StoreError(f"{target}: is there already; choose another path", retryable=False)
    store = LmdbRecordStore(path=path, readonly=True)
    store.open()
    left_out: LeftOut = []
    try:
        records = _records(store, prefix, left_out)
        return {"npy": _to_npy, "npz": _to_npz, "json": _to_json}[form](records, target, left_out), left_out
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{target}: cannot be written: {error}") from error
    finally:
        store.close()


def _records(store: LmdbRecordStore, prefix: str, left_out: LeftOut) -> Iterator[tuple[str, Record]]:
    values = Values(())
    for key in store.query(prefix=prefix):
        try:
            obj, record = values.decode(store.raw(key), key)
        except (CannotGetObjectError, CodecError, LookupError) as error:
            left_out.append((key, str(error)))
            continue
        yield key, obj if isinstance(obj, Record) else record.replace(data=obj)


def _to_npy(records: Iterator[tuple[str, Record]], target: Path, left_out: LeftOut) -> int:
    count = 0
    target.mkdir(parents=True, exist_ok=True)
    for key, record in records:
        if (array := _array(key, record, left_out)) is not None:
            with open(target / f"{_file_name(key)}.npy", "xb") as file:
                numpy.save(file, array, allow_pickle=False)
            count += 1
    return count


def _to_npz(records: Iterator[tuple[str, Record]], target: Path, left_out: LeftOut) -> int:
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_DEFLATED) as archive:
            for key, record in records:
                if (array := _array(key, record, left_out)) is not None:
                    with archive.open(f"{_file_name(key)}.npy", "w", force_zip64=True) as file:
                        numpy.lib.format.write_array(file, array, allow_pickle=False)
                    count += 1

    _whole(target, write)
    return count


def _to_json(records: Iterator[tuple[str, Record]], target: Path, left_out: LeftOut) -> int:
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        with open(temporary, "x", encoding="utf-8") as file:
            file.write("[")
            for key, record in records:
                fields = {
                    "key": key, "channel": record.channel, "seq": record.seq, "time_ns": record.time_ns,
                    "coords": dict(record.coords), "metadata": dict(record.metadata), "data": record.data,
                }  # fmt: skip
                try:
                    text = json.dumps(fields, default=_plain)
                    if _NOT_FINITE.search(text):  # what JSON has no number for is written as text
                        text = json.dumps(json.loads(text, parse_constant=str))
                except (TypeError, ValueError, RecursionError) as error:
                    left_out.append((key, str(error)))
                    continue
                file.write(f"{',' if count else ''}\n{text}")
                count += 1
            file.write("\n]\n")

    _whole(target, write)
    return count


def _whole(target: Path, write: Callable[[Path], None]) -> None:
    """Write a file under a temporary name, and rename it when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _array(key: str, record: Record, left_out: LeftOut) -> Any:
    data = record.data
    if isinstance(data, numpy.ndarray | numpy.generic | int | float | complex | bool):
        return numpy.asarray(data)
    left_out.append((key, f"{type(data).__name__} is not an array; export it as json"))
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, numpy.ndarray | numpy.generic):
        return value.tolist()
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, Record):
        return _plain(value.data)
    return str(value)


def _file_name(key: str) -> str:
    """Return a name of a file for a key, which may come from a network."""
    name = urllib.parse.quote(key, safe=" ", errors="surrogateescape")
    if len(name) > _LONGEST_NAME or name.startswith("."):
        name = f"{name[: _LONGEST_NAME - 70].lstrip('.')}-{hashlib.sha256(name.encode()).hexdigest()}"
    return name
