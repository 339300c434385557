"""An object as a record: its data, its name, the time of its put, and its encoders."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import msgspec

from penstock.arguments import checks_arguments
from penstock.codec import decode, encode_bytes
from penstock.codec.encoders import SPARSE, Encoder, Encoders, Mark
from penstock.errors import CodecError
from penstock.record import Record
from penstock_lmdb.change_log import Logged

NAME, ID, WAS_RECORD, MARKS = "lmdb_name", "lmdb_id", "lmdb_record", "lmdb_marks"
"""Entries of a record's metadata that describe an object; a record without them was written by a pipeline."""

PICKLE = "pickle"
_decode_marks = msgspec.msgpack.Decoder(list[Mark]).decode


@checks_arguments
@attrs.define
class LMDBData:
    """An object with its description.

    Attributes:
        obj: The object.
        time: When it was put, in seconds since 1970-01-01 UTC.
        name: Its name.
        is_queue: Whether it is an item of a queue: its name begins with "q__".
    """

    obj: Any
    time: float
    name: str
    is_queue: bool = False

    @property
    def queue(self) -> str | None:
        """The queue of an item: "Acquirer.q_out" of "q__Acquirer.q_out__124". None for all else."""
        if not self.is_queue:
            return None
        parts = self.name.split("__")
        return parts[1] if len(parts) > 1 else self.name


def is_queue_item(name: str) -> bool:
    """Return whether a name is one of an item of a queue."""
    return name.startswith("q__")


def _pickle_encoder() -> Encoder:
    import pickle  # here: only a store with pickle=True imports it

    return Encoder(PICKLE, _needs_pickle, pickle.dumps, pickle.loads)


def _needs_pickle(value: Any) -> bool:
    if SPARSE.encodes(value):
        return False
    try:
        encode_bytes(Record(value))
    except CodecError:
        return True
    return False


class Values:
    """Turn objects into bytes and back."""

    def __init__(self, encoders: Iterable[Encoder]) -> None:
        self._encoders = Encoders(encoders)
        self._pickling: Encoders | None = None
        self._registered = list(encoders)

    def register(self, encoder: Encoder) -> None:
        """Use an encoder from now on. Raises ConfigError."""
        self._encoders.register(encoder)
        self._registered.append(encoder)
        if self._pickling is not None:
            self._pickling.register(encoder)

    def allow_pickle(self) -> None:
        """Pickle objects that cannot be encoded otherwise, and unpickle them."""
        self._pickling = Encoders([_pickle_encoder(), *self._registered])  # the last is asked first

    def encode(self, obj: Any, *, name: str, number: int, id_is_bytes: bool) -> tuple[bytes, Record]:
        """Return the bytes of an object, a snapshot, and its record. Raises CodecError or what an encoder raises."""
        try:
            return self._encode(self._encoders, obj, name, number, id_is_bytes)
        except CodecError:
            if self._encoders.add_installed():
                return self.encode(obj, name=name, number=number, id_is_bytes=id_is_bytes)
            if self._pickling is None:
                raise
            return self._encode(self._pickling, obj, name, number, id_is_bytes)

    def _encode(self, encoders: Encoders, obj: Any, name: str, number: int, id_is_bytes: bool) -> tuple[bytes, Record]:
        metadata: dict[str, Any] = {NAME: name}
        if id_is_bytes:
            metadata[ID] = True
        if isinstance(obj, Record):
            encoded, marks = encoders.encode(obj.data)
            record = obj.replace(data=encoded, metadata={**obj.metadata, **metadata, WAS_RECORD: True})
        else:
            encoded, marks = encoders.encode(obj)
            record = Record(encoded, channel=name, seq=number, time_ns=number, metadata=metadata)
        if marks:
            record = record.with_metadata({MARKS: msgspec.msgpack.encode(marks)})
        return encode_bytes(record), record

    def decode(self, value: Any, query: Any) -> tuple[Any, Record]:
        """Return an object and the record around it.

        Raises:
            CodecError: the value is not a record, or was pickled.
            CannotGetObjectError: it needs an encoder that is not registered, or that fails.
        """
        record = decode(value)
        data = record.data
        if (packed := record.metadata.get(MARKS)) is not None:
            marks = _decode_marks(packed)
            if self._pickling is None and any(encoder == PICKLE for _, encoder in marks):
                raise CodecError(
                    "it was pickled, and unpickling runs code; if you trust the file, open it with pickle=True"
                )
            data = (self._pickling or self._encoders).decode(data, marks, f"object {query!r}")
        if record.metadata.get(WAS_RECORD) or NAME not in record.metadata:
            metadata = {key: each for key, each in record.metadata.items() if not key.startswith("lmdb_")}
            return record.replace(data=data, metadata=metadata), record
        return data, record


def to_data(obj: Any, record: Record) -> LMDBData:
    """Return the object with its metadata; of a record that a pipeline wrote, its channel is the name."""
    name = name_of(record)
    return LMDBData(obj, record.time_ns / 1e9, name, is_queue_item(name))


def name_of(record: Record) -> str:
    """Return the name of the object in a record; of a record that a pipeline wrote, its channel."""
    return str(record.metadata.get(NAME, record.channel))


def deleted(key: bytes, record: Record | None) -> Logged:
    """Return the part of a deleted object that the log keeps, to match the delete by name or coordinates."""
    if record is None:
        return ("delete", key)
    metadata = {ID: True} if record.metadata.get(ID) else {}
    return ("delete", key, encode_bytes(Record(None, channel=name_of(record), coords=record.coords, metadata=metadata)))
