"""User functions: call a processor in its own form, and interpret its results.

`Pipeline` and `DataHandler` both call processors by `adapted`, and read their results by `understood`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import AsyncGeneratorType, CoroutineType
from typing import Any, Final, cast

import msgspec

from penstock.coords import DataCoordinates
from penstock.error_text import shown
from penstock.errors import WiringError
from penstock.read_only import ReadOnlyDict, ReadOnlyList, ReadOnlySet
from penstock.record import Record

_replace = msgspec.structs.replace

RECORD: Final = 1
"""The form `(record)`."""
PARTS: Final = 3
"""The form `(coords, data, metadata)`."""
FACTORY: Final = 0
"""The form `()`: a factory that makes the processor."""

_PLAIN = frozenset((str, int, float, bool, bytes, type(None)))
_NO_DATA: Final = (DataCoordinates, CoroutineType, AsyncGeneratorType, BaseException)
_WANTED: Final = "return (coords, data, metadata), a list of such tuples, or None"


def form_of(processor: Any) -> int:
    """Return the form of a callable: RECORD, PARTS, or FACTORY if it takes no argument.

    One that can be called with a record alone gets the record: further parameters with defaults are its settings.
    The parameters of a decorator's wrapper count, not those of the wrapped function, unless it passes on any arguments.

    Raises:
        WiringError: it cannot be called in any of these forms.
    """
    try:
        outer = inspect.signature(processor, follow_wrapped=False)
    except (TypeError, ValueError):  # a built-in without a signature takes one argument
        return RECORD
    forms = [form for form in (RECORD, PARTS, FACTORY) if _binds(outer, form)]
    if len(forms) > 1 and hasattr(processor, "__wrapped__"):
        inner = inspect.signature(processor)
        forms = [form for form in forms if _binds(inner, form)] or forms
    if not forms:
        raise WiringError(
            f"it takes {outer}: a processor takes (record) or (coords, data, metadata); give other parameters a "
            "default, or bind them with functools.partial"
        )
    return forms[0]


def adapted(processor: Any, *, own_data: Callable[[Record], Any] | None = None) -> Callable[[Record], Any]:
    """Return a function of one record that calls a processor, and raises its errors within the call.

    `own_data` returns the data of a record as a function of three arguments may write to them; None: they are passed
    as they are.

    A plain function of the record is returned unchanged: this is the hot path. The results of a generator are
    listed within the call, since it would raise later otherwise.
    """
    if form_of(processor) == PARTS:

        def call(record: Record) -> Any:
            known = record.metadata
            own = record.data if own_data is None else own_data(record)
            result = processor(record.coords, own, own_metadata(known) if known else {})
            if type(result) is tuple and len(result) == 3:
                coords, data, metadata = result
                if type(coords) is DataCoordinates and type(metadata) is dict:  # nearly always
                    return _replace(record, coords=coords, data=data, metadata=metadata)
            return of_parts(record, result)

        return call
    if inspect.isgeneratorfunction(processor) or inspect.isgeneratorfunction(getattr(processor, "__call__", None)):  # noqa: B004 - the method itself is looked at
        return lambda record: list(processor(record))
    return cast("Callable[[Record], Any]", processor)


def works_in_place(processor: Any) -> bool:
    """Return whether a processor may write into its array, by its attribute `in_place`.

    Without that attribute, a function of (coords, data, metadata) may: such functions of ExEngine's users do.
    """
    declared = getattr(processor, "in_place", None)
    return form_of(processor) == PARTS if declared is None else bool(declared)


def own_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata that a function may write into: a copy, with copies of the containers and arrays in it."""
    own = dict(metadata)
    for key, value in own.items():
        if type(value) not in _PLAIN:
            own[key] = _own_value(value)
    return own


def _own_value(value: Any) -> Any:
    kind = type(value)
    if kind is dict or kind is ReadOnlyDict:
        return own_metadata(value)
    if kind is list or kind is ReadOnlyList:
        return [_own_value(each) for each in value]
    if kind is tuple:
        return tuple(map(_own_value, value))
    if kind is set or kind is ReadOnlySet or kind is bytearray or hasattr(value, "__array_interface__"):
        return value.copy()
    return value


def understood(record: Record, result: Any) -> Record | list[Any] | None:
    """Interpret a processor's result for a record. Results interpreted before stay as they are.

    Returns:
        None for nothing; one record, with the number of its parent if the result was a value; or a list, in which
        values that are not records have no number yet.

    Raises:
        TypeError: the result is not one of these. An iterator may raise anything.
    """
    if result is None or isinstance(result, Record):
        return result
    if isinstance(result, Iterator):
        result = list(result)
    if isinstance(result, tuple) and _is_triple(result):
        return _of_triple(record, result)
    if isinstance(result, (list, tuple)):
        return [_item(record, each) for each in result]
    _refuse_mistakes(record, result)
    return _replace(record, data=result)


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _is_triple(result: tuple[Any, ...]) -> bool:
    """Distinguish (coords, data, metadata) from three records: several mappings are returned as a list."""
    return len(result) == 3 and isinstance(result[0], Mapping) and (result[2] is None or isinstance(result[2], Mapping))


def _item(record: Record, item: Any) -> Any:
    if isinstance(item, tuple) and _is_triple(item):
        return _of_triple(record, item)
    _refuse_mistakes(record, item)
    return item


def _refuse_mistakes(record: Record, data: Any) -> None:
    """Raise TypeError for values that cannot be intended as data, since they would be stored silently."""
    if not isinstance(data, _NO_DATA):
        return
    if isinstance(data, DataCoordinates):
        raise TypeError(f"the processor returned {data!r:.80} as data for {record.coords!r}: {_WANTED}")
    if isinstance(data, CoroutineType):
        data.close()  # otherwise Python warns that it was never awaited
    if isinstance(data, BaseException):
        raise TypeError(f"the processor returned {shown(data)} as data: raise the error, or return its text") from data
    raise TypeError(f"the processor returned a {type(data).__name__}: a run calls plain functions, and does not await")


def of_parts(record: Record, result: Any) -> Any:
    """Interpret the result of a function of three arguments, which returns only tuples of three, or records."""
    if result is None or isinstance(result, Record):
        return result
    if isinstance(result, (list, Iterator)):
        return [each if isinstance(each, Record) else _of_triple(record, each) for each in result]
    return _of_triple(record, result)


def _of_triple(record: Record, triple: Any) -> Record:
    if not isinstance(triple, tuple) or len(triple) != 3:
        raise TypeError(f"the processor returned {triple!r:.80} for {record.coords!r}: {_WANTED}")
    coords, data, metadata = triple
    if type(coords) is not DataCoordinates:
        coords = DataCoordinates(coords)
    if type(metadata) is not dict:
        if metadata is not None and not isinstance(metadata, Mapping):
            raise TypeError(f"the processor returned {metadata!r:.80} as metadata for {record.coords!r}: {_WANTED}")
        metadata = metadata or {}
    return _replace(record, coords=coords, data=data, metadata=metadata)
