"""Encoders: named conversions for objects whose type the codec does not support; never by pickle."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from penstock import validators
from penstock.arguments import checks_arguments
from penstock.codec.installed_encoders import installed_encoders
from penstock.errors import CannotGetObjectError, ConfigError
from penstock.short_text import short

Mark = tuple[list[str | int], str]
"""The path to an encoded part of an object (keys and indices from the outside), and the name of its encoder."""

_PLAIN = frozenset((type(None), bool, int, float, str, bytes))
_DEPTH = 64


@checks_arguments
@attrs.frozen
class Encoder:
    """Convert objects of a type to values that the codec supports, and back.

    Attributes:
        name: Written beside each object; reading it needs an encoder of this name.
        kind: The type of the objects, subclasses included; or a function that tells whether it is one of them.
        encode: Return numbers, text, bytes, arrays, lists, tuples and dicts that describe it completely.
        decode: Return the object again. Arrays in its argument may be read-only.
    """

    name: str = attrs.field(validator=validators.name)
    kind: type | Callable[[Any], bool]
    encode: Callable[[Any], Any] = attrs.field()
    decode: Callable[[Any], Any] = attrs.field()

    def encodes(self, value: Any) -> bool:
        """Return whether it encodes this object."""
        return isinstance(value, self.kind) if isinstance(self.kind, type) else bool(self.kind(value))


def _is_sparse(value: Any) -> bool:
    sparse: Any = sys.modules.get("scipy.sparse")  # it has been imported if there is a sparse matrix
    return sparse is not None and bool(sparse.issparse(value))


_PARTS = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "dia": ("data", "offsets"),
    "coo": ("data", "row", "col"),
}


def _encode_sparse(matrix: Any) -> dict[str, Any]:
    """Return the arrays of a sparse matrix; formats that have none (lil, dok) are converted to coo."""
    stored = matrix if matrix.format in _PARTS else matrix.tocoo()
    if len(matrix.shape) != 2:
        raise ConfigError(f"a sparse array of shape {matrix.shape} cannot be stored; only two dimensions are supported")
    return {
        "class": type(matrix).__name__,
        "format": stored.format,
        "shape": tuple(int(size) for size in matrix.shape),
        "parts": [getattr(stored, part) for part in _PARTS[stored.format]],
    }


def _decode_sparse(found: dict[str, Any]) -> Any:
    try:
        sparse: Any = importlib.import_module("scipy.sparse")
    except ImportError as error:
        raise CannotGetObjectError("it is a sparse matrix, and scipy is not installed; install it") from error
    kind, parts, shape = found["class"], found["parts"], found["shape"]
    of_array = kind.endswith("_array")
    make = getattr(sparse, f"{found['format']}_{'array' if of_array else 'matrix'}")
    content = (parts[0], tuple(parts[1:])) if found["format"] == "coo" else tuple(parts)
    matrix = make(content, shape=shape)
    return matrix.asformat(kind.partition("_")[0])


SPARSE = Encoder("scipy.sparse", _is_sparse, _encode_sparse, _decode_sparse)
"""Sparse matrices and arrays of scipy, of every format; without copies of their arrays where the format allows it."""


def checked_encoders(encoders: Any) -> tuple[Encoder, ...]:
    """Return the encoders of an argument. Raises ConfigError unless they are encoders, in an iterable."""
    try:
        found = tuple(encoders)
    except TypeError:
        raise ConfigError(f"encoders={short(encoders)}: must be an iterable of Encoder(...)") from None
    for one in found:
        if not isinstance(one, Encoder):
            raise ConfigError(f"encoders={short(encoders)}: must hold an Encoder(...), not {short(one)}")
    return found


class Encoders:
    """The encoders of a store: the one for sparse matrices, and those registered with it."""

    def __init__(self, encoders: Iterable[Encoder] = ()) -> None:
        self._by_name = {SPARSE.name: SPARSE}
        self._looked = False
        for encoder in checked_encoders(encoders):
            self.register(encoder)

    def register(self, encoder: Encoder) -> None:
        """Use an encoder from now on. Raises ConfigError if another one has its name."""
        if not isinstance(encoder, Encoder):
            raise ConfigError(f"encoder {encoder!r}: must be an Encoder, not {type(encoder).__name__}")
        if self._by_name.setdefault(encoder.name, encoder) != encoder:
            raise ConfigError(f"encoder {encoder.name!r}: another one of this name is registered; use another name")

    def add_installed(self) -> bool:
        """Also use the encoders of installed plugins whose names are not registered; return False if there are none.

        For objects that nothing registered could encode. The second call does nothing.
        """
        before = len(self._by_name)
        if not self._looked:
            self._looked = True
            for encoder in installed_encoders():
                self._add(encoder)
        return len(self._by_name) > before

    def _add(self, encoder: Any) -> None:
        """Use an encoder of a plugin, unless one of its name is registered."""
        if isinstance(encoder, Encoder) and encoder.name not in self._by_name:
            self._by_name = {SPARSE.name: SPARSE, encoder.name: encoder, **self._by_name}  # registered ones come before

    def encode(self, value: Any) -> tuple[Any, list[Mark]]:
        """Return a copy of the value with all parts encoded that have an encoder, and their paths."""
        marks: list[Mark] = []
        return self._encode(value, [], marks), marks

    def _encode(self, value: Any, path: list[str | int], marks: list[Mark], depth: int = 0) -> Any:
        kind = type(value)
        if kind in _PLAIN or depth > _DEPTH:  # deeper than the codec allows, which refuses it
            return value
        deeper = depth + 1
        if kind is list or kind is tuple:
            items = [self._encode(item, [*path, index], marks, deeper) for index, item in enumerate(value)]
            return value if all(map(_same, items, value)) else kind(items)
        if kind is dict:
            pairs = {
                key: self._encode(item, [*path, key], marks, deeper) for key, item in value.items() if _is_step(key)
            }
            return value if all(value[key] is item for key, item in pairs.items()) else {**value, **pairs}
        for encoder in reversed(self._by_name.values()):  # one of the user's before that of sparse matrices
            if encoder.encodes(value):
                marks.append((path, encoder.name))
                return self._encode(encoder.encode(value), path, marks, deeper)
        return value

    def decode(self, value: Any, marks: Iterable[Mark], what: str) -> Any:
        """Return the original value; `what` names it in errors.

        Raises:
            CannotGetObjectError: no encoder of a name is registered here, or it cannot decode it.
        """
        for path, name in reversed(list(marks)):  # inner parts were encoded last
            if name not in self._by_name:
                for installed in installed_encoders(name):
                    self._add(installed)
            encoder = self._by_name.get(name)
            if encoder is None:
                raise CannotGetObjectError(
                    f"{what}: was put by encoder {name!r}, which is not registered here; register it, too"
                )
            try:
                value = _put(value, path, encoder.decode)
            except Exception as error:  # a user's encoder may raise anything
                raise CannotGetObjectError(f"{what}: the encoder {name!r} cannot decode it: {error}") from error
        return value


def _same(one: Any, other: Any) -> bool:
    return one is other


def _is_step(key: Any) -> bool:
    return type(key) is str or type(key) is int


def _put(value: Any, path: list[str | int], decode: Callable[[Any], Any]) -> Any:
    """Decode the part at a path; the containers around it are private and may be changed."""
    if not path:
        return decode(value)
    step, *rest = path
    items: Any = list(value) if isinstance(value, tuple) else value
    items[step] = _put(items[step], rest, decode)
    return tuple(items) if isinstance(value, tuple) else items
