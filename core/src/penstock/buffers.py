"""Buffers: detect memory that a producer reuses, and copy data where it does.

A camera driver may fill the same array repeatedly. A node that keeps its arrays would then hold the last frame many
times. So the first items are copied, to detect whether their memory is reused.
"""

from __future__ import annotations

import sys
import threading
import weakref
from array import array
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, Final

import attrs
import msgspec

from penstock.errors import BufferReusedError
from penstock.record import Record

_replace = msgspec.structs.replace
LEARNT_FROM: Final = 16
"""Number of items that are copied and checked before their memory is assumed to be stable."""
_REMEMBERED: Final = 1024
_DEEPEST: Final = 16
IMMUTABLE = frozenset((int, float, complex, bool, str, bytes, type(None), range))
"""Types without writable memory."""


@attrs.define(eq=False)
class BufferWatch:
    """Return data that stay unchanged, even if their producer reuses the memory. Any thread.

    The first 16 items with writable memory are copied, and their memory is remembered. If it is reused, each item is
    copied from then on; otherwise none is. Memory that is reused later also starts copying, and is an error if the
    record that holds it is still in flight, since that record is overwritten.

    It checks arrays, bytearrays, memoryviews, dicts and lists, nested in dicts, lists and tuples. It cannot see
    memory inside other objects; after the first 16 it checks only arrays that are the data themselves, and
    considers one in flight as long as that array object is in use, not views of it.

    Attributes:
        reuses: True copies each item, False none; None: detected.
        who: Their producer, for errors.
    """

    reuses: bool | None
    who: str
    _copies_containers: bool = attrs.field(default=False, init=False)
    _left: int = attrs.field(default=LEARNT_FROM, init=False)
    _seen: dict[Any, tuple[Callable[[], Any], int]] = attrs.field(factory=dict, init=False)
    _given: dict[Any, tuple[Callable[[], Any], Callable[[], Any], int]] = attrs.field(factory=dict, init=False)
    _array: Any = attrs.field(default=None, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return BufferWatch, (self.reuses, self.who)  # a copy in another process detects for itself

    def kept(self, item: Any, batch: int = 0) -> Any:
        """Return an item (a record, or the data of one), or a copy. Raises BufferReusedError.

        Items of one batch (not 0) may share their memory: they were returned together.
        """
        if self.reuses is False or type(item) in IMMUTABLE or (type(item) is Record and not _is_mutable(item)):
            return item
        if self.reuses is None:
            with self._lock:
                if self.reuses is None:
                    if not self._left:
                        return self._trusted(item, batch)
                    if not self._learn(item, batch):
                        return item
        return copied(item)

    @property
    def trusts(self) -> bool:
        """Whether items are neither copied nor learnt from at this moment, so that `add` and `settle` do."""
        return self.reuses is None and not self._left and not self._copies_containers

    def add(self, items: list[Any], item: Any) -> bool:
        """Add an item that has just come; return whether `settle` is to be called for it. One thread.

        Raises BufferReusedError, and adds nothing.
        """
        data = item.data if type(item) is Record else item
        array = self._array
        if array is None and "numpy" in sys.modules:
            array = self._array = sys.modules["numpy"].ndarray
        if type(data) is not array or (data.base is None and id(data) not in self._given):
            items.append(item)
            return True
        items.append(self._trusted(item, 0))
        return False

    def settle(self, items: list[Any]) -> None:
        """Remember the memory of the last item if its producer, which has gone on, may fill it again. One thread.

        It cannot if nothing refers to the array but the list, or a record that only the list holds.
        """
        if sys.getrefcount(items[-1]) == _ALONE and (
            type(items[-1]) is not Record or sys.getrefcount(items[-1].data) == _ALONE
        ):
            return
        item = items[-1]
        data = item.data if type(item) is Record else item
        if type(data) is not self._array:
            items[-1] = self._trusted(item, 0)
        elif data.flags.writeable and data.nbytes:  # `add` has found that its memory is its own, and unknown
            items[-1] = self._passed_on(item, data, id(data), weakref.ref(data), 0)

    def _learn(self, item: Any, batch: int) -> bool:
        """Remember the memory of an item; return whether it has any that is writable."""
        found = dict(_memory(item, 0))
        for key, alive in found.items():
            before = self._seen.get(key)
            if before is not None and before[0]() is not None and not (batch and before[1] == batch):
                if type(key) is not _Container:
                    self.reuses = True
                    self._seen.clear()
                    return True
                self._copies_containers = True
            self._seen[key] = (alive, batch)
        if found:
            self._left -= 1
            if not self._left:
                self._seen.clear()
        return bool(found)

    def _trusted(self, item: Any, batch: int) -> Any:
        if self._copies_containers:
            item = copied(item, buffers=False)
        data = item.data if isinstance(item, Record) else item
        numpy: Any = sys.modules.get("numpy")
        if numpy is None or type(data) is not numpy.ndarray:
            return item
        if data.base is None:  # nearly always: its memory is its own
            if not data.flags.writeable or not data.nbytes:
                return item
            key: Any = id(data)
            owner: Callable[[], Any] = weakref.ref(data)
        else:
            found = _array_memory(data, numpy)
            if not found:
                return item
            key, owner = found[0]
        given = self._given
        before = given.pop(key, None)
        if before is not None and before[0]() is not None and not (batch and before[2] == batch):
            self.reuses = True
            given.clear()
            if before[1]() is not None:
                raise BufferReusedError(
                    f"{self.who}: the memory of an array was reused while a record in flight holds it, so that "
                    "record is overwritten; set reuses_buffers=True to have each array copied, or "
                    "False if it never changes",
                    array=data,
                )
            return copied(item)
        return self._passed_on(item, data, key, owner, batch)

    def _passed_on(self, item: Any, data: Any, key: Any, owner: Callable[[], Any], batch: int) -> Any:
        """Return an item with a view of its array, whose lifetime shows whether it is in flight; remember both."""
        view = data.view()
        given = self._given
        if len(given) >= 2 * _REMEMBERED:  # at once: a dict finds its first key slowly after many deletions
            self._given = given = dict(islice(given.items(), _REMEMBERED, None))
        given[key] = (owner, weakref.ref(view), batch)
        return view if item is data else _replace(item, data=view)


class _Container(int):
    """The identity of a dict, list or set."""


def copied(value: Any, depth: int = 0, *, buffers: bool = True) -> Any:
    """Return a value with copies of all dicts, lists and sets in it; and of arrays, bytearrays, memoryviews."""
    kind = type(value)
    if kind in IMMUTABLE or depth > _DEEPEST:
        return value
    numpy: Any = sys.modules.get("numpy")
    array_type = None if numpy is None else numpy.ndarray
    if kind is array_type:  # nearly always
        return value.copy("K") if buffers else value  # numpy takes longer to read a keyword
    if isinstance(value, Record):
        if value.parent is None and not value.metadata and type(value.metadata) is dict:
            data = value.data
            if buffers and type(data) is array_type:
                return value.replace(data=data.copy("K"))
            own = copied(data, depth + 1, buffers=buffers)
            return value if own is data else value.replace(data=own)
        parent = None if value.parent is None else copied(value.parent, depth + 1, buffers=buffers)
        data = copied(value.data, depth + 1, buffers=buffers)
        metadata = copied(value.metadata, depth + 1, buffers=buffers)
        return _replace(value, data=data, metadata=metadata, parent=parent)
    if kind is dict and IMMUTABLE.issuperset(map(type, value.values())):
        return dict(value)
    again = partial(copied, depth=depth + 1, buffers=buffers)
    if kind is dict:
        return {key: again(each) for key, each in value.items()}
    if kind is list:
        return [again(each) for each in value]
    if kind is set:
        return set(value)
    if isinstance(value, tuple):
        items = [again(each) for each in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return kind(*items) if hasattr(kind, "_fields") else tuple(items)
    if not buffers:
        return value
    if kind is bytearray or kind is array:
        return value[:]
    if kind is memoryview:
        return _copied_view(value)
    if numpy is not None and isinstance(value, numpy.ndarray):
        return value.copy("K")
    return value


def _copied_view(view: memoryview) -> memoryview:
    copy = memoryview(view.tobytes())
    try:
        return copy if view.format == "B" and view.ndim == 1 else copy.cast("B").cast(view.format, view.shape)  # type: ignore[call-overload]  # the formats that it does not know raise
    except (ValueError, TypeError):
        return copy


def _references(items: list[Any]) -> int:
    return sys.getrefcount(items[-1])


_ALONE: Final = _references([object()])
"""The number of references to what only a list, or only a record, holds: the call itself has some."""


def _is_mutable(record: Record) -> bool:
    return type(record.data) not in IMMUTABLE or bool(record.metadata) or record.parent is not None


def _memory(value: Any, depth: int) -> list[tuple[Any, Callable[[], Any]]]:
    """Return keys of all writable memory in a value, each with a function that returns its owner while that lives."""
    kind = type(value)
    if kind in IMMUTABLE or depth > _DEEPEST:
        return []
    if isinstance(value, Record):
        parts = (value.data, value.metadata or None, value.parent)
        return [each for part in parts for each in _memory(part, depth + 1)]
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _array_memory(value, numpy)
    if kind is memoryview:
        return _memory(value.obj, depth + 1)
    found: list[tuple[Any, Callable[[], Any]]] = []
    if isinstance(value, bytearray | array):
        found.append((id(value), lambda: value))  # kept alive, so that no other object gets its identity
    if isinstance(value, dict | list | set):
        found.append((_Container(id(value)), lambda: value))  # as above
    if isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            found += _memory(each, depth + 1)
    return found


def _array_memory(value: Any, numpy: Any) -> list[tuple[Any, Callable[[], Any]]]:
    root = value
    while isinstance(root, numpy.ndarray) and root.base is not None:
        root = root.base
    if isinstance(root, memoryview):
        root = root.obj
    if type(root) is bytes or not value.nbytes:
        return []
    if isinstance(root, numpy.ndarray):
        if not root.flags.writeable:
            return []
        if root is value:
            return [(id(root), weakref.ref(root))]
        return [((id(root), _address(value)), weakref.ref(root))]
    if isinstance(root, bytearray | array):
        return [((id(root), _address(value)), lambda: root)]
    # Memory of a library may outlive the object that owns it here.
    return [(_address(value), lambda: True)]


def _address(value: Any) -> int:
    return int(value.__array_interface__["data"][0])
