"""The classes and unions in a configuration's annotations, and the keys that name them in files."""

from __future__ import annotations

import dataclasses
import typing
from types import UnionType
from typing import Any, get_args, get_origin

import attrs

TAG = "type"
"""The key that names the class if a field may be one of several."""

VALUE = "value"
"""The key for the value if the named type is not a class with fields."""


def type_hints(cls: type) -> dict[str, Any]:
    """Return the annotations of a class, or an empty dict if they name something that cannot be imported."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def resolve_annotations(kind: Any) -> None:
    """Turn the annotations of an attrs class into types; a name that exists only for type checkers becomes Any.

    A component annotates its inner state with the library that it imports when it opens.
    """
    absent: dict[str, Any] = {}
    while True:
        try:
            attrs.resolve_types(kind, None, absent)
        except NameError as error:
            if not error.name or error.name in absent:
                raise
            absent[error.name] = Any
        else:
            return


def is_class_of_fields(cls: Any) -> bool:
    """Return True for an attrs class or a dataclass."""
    return isinstance(cls, type) and (attrs.has(cls) or dataclasses.is_dataclass(cls))


def tagged_classes(annotation: Any) -> tuple[type, ...]:
    """Return the classes of a union that has several, if their names differ and none has a field named "type"."""
    if get_origin(annotation) not in (typing.Union, UnionType):
        return ()
    classes = tuple(member for member in get_args(annotation) if is_class_of_fields(member))
    if len({cls.__name__ for cls in classes}) < max(2, len(classes)) or any(TAG in type_hints(cls) for cls in classes):
        return ()
    return classes


def member_name(member: Any) -> str:
    """Return the name of a member of a union under the key "type": "bytes", "list[int]"."""
    return member.__name__ if isinstance(member, type) and not get_args(member) else str(member)


def member_names(union: Any) -> dict[str, Any]:
    """Return the members of a union by their names, without those whose names are the same."""
    members = [member for member in get_args(union) if member is not type(None)]
    names = [member_name(member) for member in members]
    return {name: member for name, member in zip(names, members, strict=True) if names.count(name) == 1}
