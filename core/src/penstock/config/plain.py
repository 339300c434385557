"""Objects as plain data: str, int, float, bool, None, list and dict, which any file format can hold."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

import attrs

from penstock.config.annotations import (
    TAG,
    VALUE,
    is_class_of_fields,
    member_name,
    member_names,
    tagged_classes,
    type_hints,
)
from penstock.config.scalars import MAX_ARRAY_SIZE, enum_to_plain, scalar_to_plain
from penstock.config.structure import reads_as
from penstock.errors import ConfigError

MAX_DEPTH = 100
Structure = Callable[[Any, Any], Any]


def to_plain(obj: Any, *, annotation: Any = None, path: str = "$") -> Any:
    """Return an object as plain data, from which `from_plain` makes an equal object.

    Classes become dicts of their init fields, tuples and sets lists (sets sorted, if possible), paths, dates, times,
    UUIDs and decimals str, durations seconds, bytes base64, an enum its value, arrays of numpy nested lists; keys of
    dicts become text. A field that may be one of several classes gets the key "type"; where the plain form in another
    union is ambiguous, it becomes `{"type": "bytes", "value": …}`. A type that the annotations do not name (a tuple in
    a field of type Any) is read back as a list: `YamlConfig.to_yaml` refuses that, this function does not.

    Args:
        obj: The object.
        annotation: The type it will be read as, if it is a value of a field; None: its class, or Any.
        path: Its name in errors.

    Raises:
        ConfigError: a part of it has no plain form; the message begins with its path.
    """
    return _plain(obj, path, 0, annotation)


def _plain(obj: Any, path: str, depth: int, hint: Any) -> Any:
    if depth > MAX_DEPTH:
        raise ConfigError(f"{path[:200]}: is nested more than {MAX_DEPTH} deep (or holds itself)")
    while get_origin(hint) is Annotated or hasattr(hint, "__supertype__"):  # a NewType has the latter
        hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint.__supertype__
    if get_origin(hint) in (typing.Union, UnionType):
        return _member(obj, path, depth, hint)
    if obj is None or type(obj) in (bool, int, float, str):
        return obj
    if isinstance(obj, enum.Enum):
        return enum_to_plain(obj)
    if not isinstance(obj, type) and is_class_of_fields(type(obj)):
        return _fields(obj, path, depth)
    if isinstance(obj, Mapping):
        return _mapping(obj, path, depth, hint)
    if isinstance(obj, list | tuple | set | frozenset):
        items = _sorted(obj) if isinstance(obj, set | frozenset) else obj
        of = _item_hints(hint)
        return [_plain(item, f"{path}[{index}]", depth + 1, next(of)) for index, item in enumerate(items)]
    return _scalar(obj, path, hint)


def _fields(obj: Any, path: str, depth: int) -> dict[str, Any]:
    cls = type(obj)
    fields: Any = attrs.fields(cls) if attrs.has(cls) else dataclasses.fields(cls)
    hints = type_hints(cls)
    return {
        field.name: _plain(getattr(obj, field.name), f"{path}.{field.name}", depth + 1, hints.get(field.name))
        for field in fields
        if field.init
    }


def _member(obj: Any, path: str, depth: int, union: Any) -> Any:
    """Return the plain form of a union's value: as it is, if unambiguous, else with the name of its type."""
    if obj is None:
        return None
    own = [member for member in get_args(union) if _may_be(obj, member)]
    if type(obj) in tagged_classes(union):
        return {TAG: type(obj).__name__, **_plain(obj, path, depth, None)}
    if len(get_args(union)) == 2 and type(None) in get_args(union):  # an Optional has only one type
        return _plain(obj, path, depth, next(one for one in get_args(union) if one is not type(None)))
    forms = [(member, _plain(obj, path, depth, member)) for member in own or [None]]
    if own:
        for _, plain in forms:
            if reads_as(plain, union, obj):
                return plain
        names = member_names(union)
        for member, plain in forms:
            if names.get(named := member_name(member)) is member and reads_as(plain, member, obj):
                return {TAG: named, VALUE: plain}
    return forms[0][1]


def _may_be(obj: Any, member: Any) -> bool:
    """Return whether an object may belong to a member of a union; True where only reading it back decides."""
    while hasattr(member, "__supertype__"):
        member = member.__supertype__
    origin = get_origin(member) or member
    try:
        return isinstance(obj, origin) or (origin is float and type(obj) is int)
    except TypeError:  # Any, a Literal, a protocol
        return True


def _mapping(obj: Mapping[Any, Any], path: str, depth: int, hint: Any) -> dict[str, Any]:
    key_hint, of = get_args(hint) if len(get_args(hint)) == 2 else (None, None)
    plain: dict[str, Any] = {}
    for key, value in obj.items():
        text = _key(key, path, key_hint)
        if text in plain:
            raise ConfigError(f"{path}: two keys are {text!r} in a file, {key!r} is the second; rename one")
        plain[text] = _plain(value, f"{path}.{text}", depth + 1, of)
    return plain


def _key(key: Any, path: str, hint: Any) -> str:
    """Return the text of a key, in JSON form if it is not text: "1", "null", "[1, 2]"."""
    plain = _plain(key, f"{path} key {key!r}", 0, hint)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _item_hints(hint: Any) -> Iterator[Any]:
    of = get_args(hint)
    if get_origin(hint) is tuple and not (len(of) == 2 and of[1] is ...):
        yield from of
    while True:
        yield of[0] if of and get_origin(hint) not in (dict, typing.Literal) else None


def _sorted(items: set[Any] | frozenset[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:  # of several types: sorted by their text, so that equal sets yield equal files
        return sorted(items, key=repr)


def _scalar(obj: Any, path: str, hint: Any) -> Any:
    numpy = sys.modules.get("numpy")  # an array implies that it is imported
    if numpy is not None and isinstance(obj, numpy.ndarray | numpy.generic) and obj.dtype.kind in "biufSU":
        return _array(obj, path, hint)
    return scalar_to_plain(obj, path)


def _array(obj: Any, path: str, hint: Any) -> Any:
    """Return nested lists, with dtype and shape if the annotation allows any dtype."""
    if obj.size > MAX_ARRAY_SIZE:
        raise ConfigError(f"{path}: an array of {obj.size} numbers; write it to a file and use its path")
    values = obj.tolist()
    if type(values) is type(obj):  # a longdouble: no number of Python can hold it
        raise ConfigError(f"{path}: {type(obj).__name__} {obj} has no form as plain data")
    plain = _plain(values, path, 0, None)
    if obj.ndim and hint is not None and not reads_as(plain, hint, obj):
        return {
            "dtype": str(obj.dtype),
            "shape": list(obj.shape),
            "values": _plain(obj.ravel().tolist(), path, 0, None),
        }
    return plain
