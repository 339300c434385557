"""The memory of records: all buffers that they hold, each counted once; fast enough for every list."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, groupby
from typing import Any, Final

from penstock.coords import DataCoordinates
from penstock.read_only import ReadOnlyDict, ReadOnlyList
from penstock.record import Record

OVERHEAD_BYTES = 400
"""Overhead of a record: the struct, a small metadata dict, slots in lists (measured, rounded up)."""

_SCALAR_BYTES: Final = 32
_SCALARS = frozenset((int, float, bool, complex, type(None)))
_SCALARS_AND_TEXTS = _SCALARS | {str, bytes}
_DICTS = frozenset((dict, ReadOnlyDict))
_VALUES: Final[Callable[[Any], Iterable[Any]]] = dict.values
_UNKNOWN_BYTES: Final = 64
_SHORT: Final = 16
_SHORT_BYTES: Final = 4096
_ITERABLES = (list, tuple, set, frozenset, deque)
_WHOLE = (type, type(sys), type(len), type(lambda: None))
"""Types that belong to the program, not to a record: their attributes are not followed."""


def size_of(data: Any) -> int:
    """Return the bytes of a value with all its content: arrays, bytes and memoryviews, however nested.

    A buffer reached twice counts once; of a view, only its own elements. Never raises: values that cannot
    be measured count as objects of 64 bytes.
    """
    kind = type(data)
    if kind is bytes or kind is bytearray:
        return len(data)
    if kind in _SCALARS:
        return _SCALAR_BYTES
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray and not data.dtype.hasobject:
        return _shown(data, numpy)
    return _walk([data], numpy)


def size_of_parts(data: Any, metadata: Mapping[str, Any]) -> int:
    """Return the approximate bytes of a record with these data and metadata, before it is made."""
    flat = _flat_bytes(metadata) if metadata else 0
    return OVERHEAD_BYTES + (size_of((data, metadata)) if flat is None else size_of(data) + flat)


def weigh(records: Sequence[Record]) -> int:
    """Return the approximate bytes of one of these records: the larger of the first and the last."""
    first = _of_record(records[0])
    return OVERHEAD_BYTES + (first if len(records) == 1 else max(first, _of_record(records[-1])))


def weights(records: Sequence[Record]) -> Sequence[int]:
    """Return the bytes that each of these records takes."""
    return _weights(_held(records))


def total_bytes(records: Sequence[Record]) -> int:
    """Return the bytes that these records take together."""
    return Sizes(records).total_bytes()


class Sizes:
    """The sizes of the records of a list, measured when they are first needed, once for all edges that ask.

    They are those of that moment: it is made when records are passed on, and not kept.
    """

    __slots__ = ("_each", "_records", "_total")

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._total: int | None = None
        self._each: Sequence[int] | None = None

    def total_bytes(self) -> int:
        """Return the bytes that the records take together."""
        if self._total is None:
            records = self._records
            self._total = _quick_total(records) if len(records) > 1 else weigh(records)
            if self._total is None:
                self._total = sum(self.each_bytes())
        return self._total

    def each_bytes(self) -> Sequence[int]:
        """Return the bytes that each of the records takes."""
        if self._each is None:
            self._each = weights(self._records)
        return self._each

    def even_parts(self, small_bytes: int) -> list[tuple[Sequence[Record], int]]:
        """Split the list where the sizes change, and return the parts with the size of one record of each.

        A list of at most `small_bytes`, or whose records are of similar size, is not split.
        """
        records, total = self._records, self.total_bytes()
        sizes = self.each_bytes() if total > small_bytes else ()
        if not sizes or max(sizes) <= 2 * min(sizes):
            return [(records, -(-total // len(records)))]
        parts: list[tuple[Sequence[Record], int]] = []
        start = 0
        for _, same in groupby(sizes, int.bit_length):
            part = list(same)
            parts.append((records[start : start + len(part)], -(-sum(part) // len(part))))
            start += len(part)
        return parts


def _quick_total(records: Sequence[Record]) -> int | None:
    """Return the bytes that these records take together, or None if it takes a look at each of them to know.

    Most lists hold records of one kind, with plain metadata or none: a few passes in C, for lists that take several
    times as long to look into.
    """
    count, flat = len(records), 0
    held = [record.data for record in records if record.parent is None and not record.metadata]
    if len(held) < count:
        metadata = [record.metadata for record in records if record.parent is None]
        total = _total_of_flat(metadata) if len(metadata) == count else None
        if total is None:
            return None
        flat, held = total, [record.data for record in records]
    types = list(map(type, held))  # with the count below twice as fast as a set
    kinds = {types[0]} if types.count(types[0]) == count else set(types)
    if kinds <= _SCALARS:
        return flat + count * (OVERHEAD_BYTES + _SCALAR_BYTES)
    if kinds == {bytes}:
        return flat + count * OVERHEAD_BYTES + sum(map(len, held))
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or kinds != {numpy.ndarray}:
        return None
    size = count * OVERHEAD_BYTES
    known: Any = None
    for array in held:  # a view of few elements, repeated, counts with all it shows
        dtype = array.dtype
        if dtype is not known:
            if dtype.hasobject:
                return None
            known = dtype
        size += array.nbytes
    return flat + size


def _total_of_flat(metadata: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the bytes of these metadata, if they are dicts of numbers and short texts."""
    if not _DICTS.issuperset(map(type, metadata)):
        return None
    values = list(chain.from_iterable(map(_VALUES, metadata)))
    kinds = set(map(type, values))
    size = _UNKNOWN_BYTES * len(metadata) + 3 * _SCALAR_BYTES * len(values)
    if kinds <= _SCALARS:
        return size
    if not kinds <= _SCALARS_AND_TEXTS:
        return None
    lengths = [len(value) for value in values if type(value) is str or type(value) is bytes]
    return size + _SCALAR_BYTES * len(lengths) + sum(lengths) if max(lengths) <= _SHORT_BYTES else None


def _held(records: Sequence[Record]) -> list[Any]:
    """Return the values to measure: the data of each record, or the record if it holds more."""
    return [record.data if record.parent is None and not record.metadata else record for record in records]


def _weights(held: Sequence[Any]) -> list[int]:
    kinds = set(map(type, held))
    if kinds <= _SCALARS:
        return [OVERHEAD_BYTES + _SCALAR_BYTES] * len(held)
    if kinds == {bytes}:
        return [OVERHEAD_BYTES + len(each) for each in held]
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and kinds == {numpy.ndarray}:
        return [
            OVERHEAD_BYTES + (each.nbytes if each.base is None and not each.dtype.hasobject else size_of(each))
            for each in held
        ]
    return [OVERHEAD_BYTES + (_of_record(each) if type(each) is Record else size_of(each)) for each in held]


def _of_record(record: Record) -> int:
    if record.parent is None and not record.metadata:
        return size_of(record.data)
    simple = _of_simple(record)
    return size_of(record) if simple is None else simple


def _of_simple(record: Record) -> int | None:
    """Return the size of a record whose metadata are plain, or None if it has to be walked through.

    Frames have twenty entries of metadata, and a parent with as many: a walk takes a quarter of the time that it takes
    to decode one.
    """
    data, parent = record.data, record.parent
    numpy: Any = sys.modules.get("numpy")
    if type(data) is bytes:
        size = len(data)
    elif numpy is not None and type(data) is numpy.ndarray and not data.dtype.hasobject:
        size = _shown(data, numpy)
    else:
        return None
    flat = _flat_bytes(record.metadata)
    if flat is None:
        return None
    size += _SCALAR_BYTES + flat
    if parent is None:
        return size
    if type(parent.data) is not bytes or parent.parent is not None or parent.data is data:
        return None
    if type(data) is not bytes and _owner(data, numpy) is parent.data:
        return None
    flat = _flat_bytes(parent.metadata)
    return None if flat is None else size + _SCALAR_BYTES + len(parent.data) + flat


def bytes_of_numbers(metadata: Mapping[str, Any]) -> int | None:
    """Return the size of metadata that are numbers, with their keys and their places; None for any other."""
    for value in metadata.values():  # faster than a set of the types for a few
        if type(value) not in _SCALARS:
            return None
    return _UNKNOWN_BYTES + 3 * _SCALAR_BYTES * len(metadata)


def _flat_bytes(metadata: Mapping[str, Any]) -> int | None:
    """Return the approximate size of a dict of numbers, short texts and short lists of numbers; None for any other."""
    if type(metadata) is not dict and type(metadata) is not ReadOnlyDict:
        return None
    numbers = bytes_of_numbers(metadata)
    if numbers is not None:
        return numbers
    size = _UNKNOWN_BYTES
    for value in metadata.values():
        kind = type(value)
        if kind in _SCALARS:
            size += 3 * _SCALAR_BYTES  # with its key and slot
        elif (kind is str or kind is bytes) and len(value) <= _SHORT_BYTES:  # a longer one may occur twice
            size += 4 * _SCALAR_BYTES + len(value)
        elif (
            (kind is list or kind is tuple or kind is ReadOnlyList)
            and len(value) <= _SHORT
            and _SCALARS.issuperset(map(type, value))
        ):
            size += (5 + len(value)) * _SCALAR_BYTES
        else:
            return None
    return size


def _walk(todo: list[Any], numpy: Any) -> int:
    """Add up everything that can be reached from these, each object once."""
    seen: dict[int, Any] = {}  # keeps temporary objects alive, so that no other object gets their identity
    buffers: dict[int, tuple[int, int]] = {}
    size = 0
    while todo:
        value = todo.pop()
        if type(value) in _SCALARS:
            size += _SCALAR_BYTES
            continue
        if id(value) in seen:
            continue
        seen[id(value)] = value
        try:
            size += _look_into(value, todo, buffers, numpy)
        except Exception:  # attributes of a user's object may raise anything
            size += _UNKNOWN_BYTES
    return size + sum(min(shown, whole) for shown, whole in buffers.values())


def _look_into(value: Any, todo: list[Any], buffers: dict[int, tuple[int, int]], numpy: Any) -> int:
    """Return the size of one object; its content goes to `todo`, its buffer to `buffers`."""
    if isinstance(value, bytes | bytearray):
        buffers[id(value)] = (len(value), len(value))
        return 0
    if isinstance(value, str):
        return sys.getsizeof(value, _UNKNOWN_BYTES)
    if isinstance(value, memoryview):
        return _add(buffers, value.obj, value.nbytes, _length(value.obj, value.nbytes))
    if numpy is not None and isinstance(value, numpy.ndarray):
        if value.dtype.hasobject:
            todo.extend(value.ravel().tolist())
        todo.extend(vars(value).values() if hasattr(value, "__dict__") else ())  # such as the mask of a masked array
        owner = _owner(value, numpy)
        return _add(buffers, owner, value.nbytes, _length(owner, value.nbytes))
    if isinstance(value, Record):
        todo += (value.data, value.metadata, value.parent)
        return _SCALAR_BYTES
    if isinstance(value, DataCoordinates):
        return _UNKNOWN_BYTES
    if isinstance(value, Mapping):
        todo.extend(value.keys())
        todo.extend(value.values())
        return sys.getsizeof(value, _UNKNOWN_BYTES)
    if isinstance(value, _ITERABLES):
        todo.extend(value)
        return sys.getsizeof(value, _UNKNOWN_BYTES)
    size = getattr(value, "nbytes", None)  # tensors, tables
    if type(size) is int:
        return size
    if isinstance(value, _WHOLE):
        return 0
    todo.extend(held for _, held in attributes(value))
    return max(sys.getsizeof(value, _UNKNOWN_BYTES), _length(value, 0))


def attributes(value: Any) -> list[tuple[str, Any]]:
    """Return the values in an object's dict and slots, by name. Raises whatever the object raises."""
    held = list(vars(value).items()) if hasattr(value, "__dict__") else []
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            name = f"_{cls.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                held.append((name, getattr(value, name)))
    return held + [(name, getattr(value, name)) for name in getattr(type(value), "__struct_fields__", ())]


def _shown(array: Any, numpy: Any) -> int:
    if (
        type(array.base) is numpy.ndarray and not array.flags.c_contiguous
    ):  # an array with stride 0 shows more bytes than it owns
        return min(int(array.nbytes), _length(_owner(array, numpy), int(array.nbytes)))
    return int(array.nbytes)


def _owner(array: Any, numpy: Any) -> Any:
    while isinstance(array, numpy.ndarray) and array.base is not None:
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


def _length(owner: Any, otherwise: int) -> int:
    size = getattr(owner, "nbytes", None)
    if type(size) is int:
        return size
    try:
        return memoryview(owner).nbytes
    except TypeError:
        return otherwise


def _add(buffers: dict[int, tuple[int, int]], owner: Any, shown: int, whole: int) -> int:
    before, _ = buffers.get(id(owner), (0, 0))
    buffers[id(owner)] = (before + shown, whole)
    return 0
