"""Salvage: keep as much as possible of a record that cannot be written as bytes, and mark the changed parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from penstock.codec.values import Packer
from penstock.errors import CodecError
from penstock.fields import readable
from penstock.record import Record
from penstock.record_size import attributes

NOT_KEPT: Final = "not_kept"
"""The metadata key of the marks: a mapping of paths to reasons."""
_DEEPEST: Final = 40
_MOST_MARKS: Final = 100
_MOST_PARTS: Final = 100_000
_LONGEST_REPR: Final = 1000


def salvaged(record: Record, reason: BaseException) -> Record:
    """Return the record with all values that can be written as bytes; the others become a text that describes them.

    An object becomes a description, with those of its attributes that are arrays, bytes or plain values. A record as
    data becomes a dict of its fields. The metadata entry "not_kept" lists the changes and their reasons.
    """
    work = _Salvage()
    kept, odd = readable(record)
    for name, value in odd.items():
        work.mark(f"$.{name}", f"was {_shown(value)}")
    data = work.keep(record.data, "$.data", ())
    metadata = _metadata(work, kept.metadata)
    marks = work.marks or {"$": _text(f"{type(reason).__name__}: {_shown(reason)}")}
    metadata[NOT_KEPT] = marks
    return kept.replace(data=data, metadata=metadata, parent=None)


def _metadata(work: _Salvage, metadata: Mapping[Any, Any]) -> dict[str, Any]:
    """Return metadata whose keys are valid text."""
    try:
        found = work.keep(dict(metadata), "$.metadata", (), top=True)
    except Exception as error:  # a user's mapping may raise anything
        work.mark("$.metadata", _shown(error))
        return {}
    return found if isinstance(found, dict) else {}


class _Salvage:
    """Go through the values of one record."""

    def __init__(self) -> None:
        self.marks: dict[str, str] = {}
        self._parts = 0

    def mark(self, path: str, reason: str) -> None:
        """Record a change at a path."""
        if len(self.marks) < _MOST_MARKS:
            self.marks[_text(path)[:200]] = _text(reason)[:_LONGEST_REPR]

    def keep(self, value: Any, path: str, above: tuple[int, ...], *, top: bool = False) -> Any:
        """Return a value unchanged if it can be written, else the part of it that can be kept."""
        reason = _refused(value, path, above, top=top)
        if reason is None:
            return value
        self._parts += 1
        if id(value) in above or len(above) >= _DEEPEST or self._parts > _MOST_PARTS:
            return self._described(value, path, "is nested too deeply, or holds itself")
        inside = (*above, id(value))
        try:
            return self._opened(value, path, inside, reason, top=top)
        except Exception as error:  # a user's value may raise anything
            return self._described(value, path, _shown(error))

    def _opened(self, value: Any, path: str, above: tuple[int, ...], reason: str, *, top: bool) -> Any:
        if isinstance(value, Record):
            fields, _ = readable(value)
            names = ("channel", "seq", "time_ns", "discontinuity", "coords", "metadata", "data")
            self.mark(path, "a record as data: its fields")
            held = {name: getattr(fields, name) for name in names}
            return {name: self.keep(each, f"{path}.{name}", above) for name, each in held.items()}
        if isinstance(value, Mapping):
            return self._items(value, path, above, top=top)
        if isinstance(value, list | tuple | set | frozenset):
            kept = [self.keep(item, f"{path}[{index}]", above) for index, item in enumerate(value)]
            if isinstance(value, set | frozenset):
                self.mark(path, f"was a {type(value).__name__}: {reason}")
            return tuple(kept) if isinstance(value, tuple) else kept
        if hasattr(value, "__array_finalize__"):
            return self._array(value, path, above, reason)
        return self._object(value, path, above, reason)

    def _items(self, mapping: Mapping[Any, Any], path: str, above: tuple[int, ...], *, top: bool) -> dict[Any, Any]:
        kept: dict[Any, Any] = {}
        for key, value in mapping.items():
            name = key
            if (top and type(key) is not str) or _refused({key: None}, path, above, top=top) is not None:
                name = _text(key if isinstance(key, str) else _shown(key))
                self.mark(f"{path} key {name}", f"was a key of type {type(key).__name__}")
            number = 2
            while name in kept or (name is not key and name in mapping):
                name, number = f"{name} ({number})", number + 1
            kept[name] = self.keep(value, f"{path}.{name}", above)
        if _refused(kept, path, above, top=top) is None or top:
            return kept
        self.mark(path, "several keys would be read as the same one: replaced by text")
        return {f"{number}: {_text(_shown(key))}": value for number, (key, value) in enumerate(kept.items())}

    def _array(self, array: Any, path: str, above: tuple[int, ...], reason: str) -> Any:
        self.mark(path, reason)
        if hasattr(array, "mask"):
            return {"data": self.keep(array.data, f"{path}.data", above), "mask": array.mask + False}
        names = array.dtype.names
        if names:
            return {name: self.keep(array[name], f"{path}.{name}", above) for name in names}
        return self.keep(array.tolist(), path, above)

    def _object(self, value: Any, path: str, above: tuple[int, ...], reason: str) -> Any:
        text = self._described(value, path, reason)
        kept = {}
        for name, held in attributes(value):
            if _refused(held, path, above) is None:
                kept[_text(name)] = held
        return {NOT_KEPT: text, "attributes": kept} if kept and not isinstance(value, type) else text

    def _described(self, value: Any, path: str, reason: str) -> str:
        self.mark(path, reason)
        return _text(f"<not kept: {type(value).__module__}.{type(value).__qualname__}: {_shown(value)}>")


def _refused(value: Any, path: str, above: Iterable[int], *, top: bool = False) -> str | None:
    """Return why a value cannot be written, or None if it can."""
    packer = Packer(careful=True)
    try:
        if top:
            packer.pack_metadata(value, path)
        elif path == "$.data":
            packer.pack_data(value, path)
        else:
            packer.pack(value, path, len(tuple(above)) + 1)
    except CodecError as error:
        return str(error)
    except Exception as error:  # a user's value may raise anything
        return _shown(error)
    return None


def _shown(value: Any) -> str:
    """Return the repr of a value, shortened, or a note if its repr raises."""
    try:
        text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else repr(value)
        return text[:_LONGEST_REPR]
    except BaseException as error:
        return f"its repr raised {type(error).__name__}"


def _text(text: str) -> str:
    r"""Return text that UTF-8 can encode: a lone surrogate becomes the six characters `\\udce9`."""
    return str.__str__(text).encode("utf-8", "backslashreplace").decode()
