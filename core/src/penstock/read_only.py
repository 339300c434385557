"""Shared data and metadata: read-only, at any depth, and without a copy of any array."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import msgspec

from penstock.errors import ReadOnlyError
from penstock.record import Record

_replace = msgspec.structs.replace
_IMMUTABLE = frozenset((int, float, complex, bool, str, bytes, type(None), range))
_DEEPEST: Final = 64


def _refuse(self: Any, *args: Any, **_: Any) -> NoReturn:
    key = args[0] if args and isinstance(args[0], str) and args[0].isidentifier() else "mean"
    raise ReadOnlyError(
        f"this {type(self).__mro__[1].__name__} is shared with other nodes and cannot be changed; for metadata return "
        f"record.with_metadata({key}=…), for data record.replace(data=…) with a copy; a processor with in_place = True "
        "gets a copy of its own"
    )


class ReadOnlyDict(dict[Any, Any]):
    """A dict that cannot be changed, nor its content. A copy, or a pickled one, is a plain dict."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def __copy__(self) -> dict[Any, Any]:
        return dict(self)


class ReadOnlyList(list[Any]):
    """A list that cannot be changed, nor its content. A copy, or a pickled one, is a plain list."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def __copy__(self) -> list[Any]:
        return list(self)


class ReadOnlySet(set[Any]):
    """A set that cannot be changed. A copy, or a pickled one, is a plain set."""

    __slots__ = ()
    __ior__ = __iand__ = __isub__ = __ixor__ = _refuse
    add = clear = discard = pop = remove = update = _refuse
    difference_update = intersection_update = symmetric_difference_update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return set, (set(self),)

    def __repr__(self) -> str:
        return repr(set(self))

    def copy(self) -> set[Any]:
        """Return a set that can be changed."""
        return set(self)

    __copy__ = copy


_FROZEN = (ReadOnlyDict, ReadOnlyList, ReadOnlySet)
EMPTY: Final = ReadOnlyDict()


def read_only(record: Record) -> Record:
    """Return a record whose data, metadata and parent cannot be written to; arrays are views, nothing is copied.

    That holds for arrays, memoryviews, dicts, lists and sets, nested in each other and in tuples; a bytearray becomes
    bytes. Objects of other classes stay as they are.
    """
    data, metadata, parent = record.data, record.metadata, record.parent
    frozen = data if type(data) in _IMMUTABLE else frozen_value(data)
    if type(metadata) is not ReadOnlyDict:
        metadata = frozen_value(metadata) if metadata else EMPTY
    above = None if parent is None else read_only(parent)
    if frozen is data and metadata is record.metadata and above is parent:
        return record
    return _replace(record, data=frozen, metadata=metadata, parent=above)


def all_read_only(records: Sequence[Record]) -> list[Record]:
    """Return these records as `read_only` does; quickly for what most small records are: plain data and no metadata."""
    plain, empty = _IMMUTABLE, EMPTY
    return [
        _replace(record, metadata=empty)
        if not record.metadata and record.parent is None and type(record.data) in plain
        else read_only(record)
        for record in records
    ]


def frozen_value(value: Any, depth: int = 0) -> Any:
    """Return a value that cannot be written to; see `read_only`."""
    kind = type(value)
    if kind in _IMMUTABLE or kind in _FROZEN or depth > _DEEPEST:
        return value
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray:  # nearly always
        return _read_only_view(value) if value.flags.writeable else value
    if isinstance(value, dict):
        for each in value.values():  # faster than a set of the types for a few
            if type(each) not in _IMMUTABLE:
                return ReadOnlyDict({key: frozen_value(each, depth + 1) for key, each in value.items()})
        return ReadOnlyDict(value)
    if kind is list:
        return ReadOnlyList([frozen_value(each, depth + 1) for each in value])
    if kind is set:
        return ReadOnlySet(value)
    if isinstance(value, tuple):
        return _tuple(value, [frozen_value(each, depth + 1) for each in value])
    if kind is bytearray:
        return bytes(value)
    if kind is memoryview:
        return value if value.readonly else value.toreadonly()
    if kind is Record:
        return read_only(value)
    if numpy is not None and isinstance(value, numpy.ndarray) and value.flags.writeable:
        return _read_only_view(value)
    return value


def _read_only_view(array: Any) -> Any:
    view = array.view()
    view.setflags(False)  # a fifth of the time of `flags.writeable = False`, a third of that with a keyword
    return view


def frozen_own(value: Any) -> Any:
    """Return the same for a value that nothing else refers to: an array is made read-only in place, without a view."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and type(value) is numpy.ndarray:
        value.setflags(False)  # as above
        return value
    return frozen_value(value)


def owned(record: Record) -> Record:
    """Return a record that may be written to: read-only parts of its data and metadata are copied."""
    data, metadata = owned_value(record.data), owned_value(record.metadata)
    if data is record.data and metadata is record.metadata:
        return record
    return _replace(record, data=data, metadata=metadata)


def owned_value(value: Any, depth: int = 0) -> Any:
    """Return a value that may be written to: itself, or with copies of its read-only parts."""
    kind = type(value)
    if kind in _IMMUTABLE or depth > _DEEPEST:
        return value
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray:  # nearly always
        return value if value.flags.writeable else value.copy()
    if kind is ReadOnlyDict:
        for each in value.values():
            if type(each) not in _IMMUTABLE:
                return {key: owned_value(each, depth + 1) for key, each in value.items()}
        return dict(value)
    if kind is ReadOnlyList:
        return [owned_value(each, depth + 1) for each in value]
    if kind is ReadOnlySet:
        return set(value)
    if isinstance(value, tuple):
        return _tuple(value, [owned_value(each, depth + 1) for each in value])
    if numpy is not None and isinstance(value, numpy.ndarray) and not value.flags.writeable:
        return value.copy()
    return value


def _tuple(value: tuple[Any, ...], items: list[Any]) -> tuple[Any, ...]:
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    kind = type(value)
    return kind(*items) if hasattr(kind, "_fields") else tuple(items)
