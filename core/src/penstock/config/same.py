"""The first difference, by value and type, between the object written and the one read back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from decimal import Decimal
from pathlib import PurePath
from types import UnionType
from typing import Any, Union, get_args, get_origin

import attrs

from penstock.config.annotations import is_class_of_fields, type_hints
from penstock.validators import is_numpy_scalar


def difference(written: Any, read: Any, path: str = "$", kind: Any = Any) -> str | None:
    """Return the first place where two objects differ, "$.a[0]: 1 is read back as '1'"; None if they are the same.

    Types must be the same, too, with two exceptions, for annotations that accept both: an int is read as an equal
    float, and a scalar of numpy as the equal value of Python where `kind`, the annotation, names that. nan is the same
    as nan, and 0.0 is not -0.0.
    """
    if type(written) is not type(read) and is_numpy_scalar(written) and _names(kind, type(read)):
        written = written.item()
    if type(written) is int and type(read) is float and written == read:
        return None
    if type(written) is not type(read):
        return _read_back(written, read, path)
    if is_class_of_fields(type(written)):
        return _of_fields(written, read, path)
    if isinstance(written, Mapping):
        return _of_mappings(written, read, path, _item_kinds(kind, dict, 2)[1])
    if isinstance(written, list | tuple):
        if len(written) != len(read):
            return _read_back(written, read, path)
        inner = _item_kinds(kind, type(written), len(written))
        pairs = enumerate(zip(written, read, inner, strict=True))
        return next((said for i, (a, b, each) in pairs if (said := difference(a, b, f"{path}[{i}]", each))), None)
    if isinstance(written, set | frozenset):
        return None if written == read and _types(written) == _types(read) else _read_back(written, read, path)
    return None if _is_same_scalar(written, read) else _read_back(written, read, path)


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, and another annotation as the only one."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _names(kind: Any, cls: type) -> bool:
    return any(member is cls for member in _members(kind))


def _item_kinds(kind: Any, container: type, count: int) -> list[Any]:
    """Return the annotation of each item of a list or tuple, or of key and value of a dict; Any if it is unknown."""
    for member in _members(kind):
        args = get_args(member)
        if get_origin(member) is container and args:
            if len(args) == count and Ellipsis not in args and container is not list:
                return list(args)
            return [args[0]] * count
    return [Any] * count


def _of_fields(written: Any, read: Any, path: str) -> str | None:
    cls = type(written)
    fields: Any = attrs.fields(cls) if attrs.has(cls) else dataclasses.fields(cls)
    missing, hints = object(), type_hints(cls)
    for field in fields:
        if not field.init and not (field.eq if attrs.has(cls) else field.compare):
            continue
        first, second = (getattr(one, field.name, missing) for one in (written, read))
        said = difference(first, second, f"{path}.{field.name}", hints.get(field.name, Any))
        if said:
            return said if field.init else f"{said}, since files hold only fields of __init__"
    return None


def _of_mappings(written: Mapping[Any, Any], read: Mapping[Any, Any], path: str, kind: Any) -> str | None:
    own = {key: key for key in read}
    for key, value in written.items():
        if key not in own:
            return f"{path}: the key {_shown(key)} with {_shown(value)} is not read back"
        if difference(key, own[key]):
            return f"{path}: the key {_shown(key)} is not read back as it is"
        if said := difference(value, read[key], f"{path}.{key}", kind):
            return said
    return None if len(written) == len(read) else _read_back(written, read, path)


def _is_same_scalar(written: Any, read: Any) -> bool:
    if isinstance(written, float):
        if math.isnan(written) or math.isnan(read):
            return math.isnan(written) and math.isnan(read)
        return written == read and math.copysign(1, written) == math.copysign(1, read)
    if isinstance(written, complex | Decimal | PurePath):  # 1+0j is 1-0j, and Decimal("1.0") is Decimal("1") for ==
        return repr(written) == repr(read)
    if hasattr(written, "dtype") and hasattr(written, "tobytes"):
        if written.dtype != read.dtype or written.shape != read.shape:
            return False
        import numpy

        if written.dtype.kind != "f":
            return bool(numpy.array_equal(written, read))
        signs = (numpy.signbit(written) == numpy.signbit(read)) | numpy.isnan(written)
        return bool(signs.all() and numpy.array_equal(written, read, equal_nan=True))
    return written is read or bool(written == read)


def _types(items: set[Any] | frozenset[Any]) -> dict[Any, str]:
    """Return each item with its full type, including that of its content, and the sign of a zero."""
    return {item: f"{type(item).__name__} {item!r}" for item in items}


def _read_back(written: Any, read: Any, path: str) -> str:
    return f"{path}: {_shown(written)} is read back as {_shown(read)}"


def _shown(value: Any) -> str:
    try:
        text = ascii(value)
    except Exception:  # a user's class may raise anything; it is only named here
        text = "…"
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '…'}"
