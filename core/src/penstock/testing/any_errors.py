"""Errors of every kind that a component can meet or raise, for tests of the code that must survive them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import attrs

from penstock.errors import EndOfSource, RunAborted


class UnprintableError(Exception):
    """An error whose `__str__` and `__repr__` raise."""

    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __repr__(self) -> str:
        raise SystemExit("no repr")


class DisguisedError(Exception):
    """An error that raises on access to its `__class__`, or to an attribute that other errors have."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "retryable", "failed", "args", "__notes__"):
            raise ValueError(f"no {name}")
        return super().__getattribute__(name)


class UntruthfulError(Exception):
    """An error that raises when its length or truth is taken, or when it is compared."""

    def __bool__(self) -> bool:
        raise ValueError("no truth")

    def __eq__(self, other: object) -> bool:
        raise ValueError("no equal")

    __hash__ = Exception.__hash__


class UnpicklableError(Exception):
    """An error that holds an object that cannot be pickled, and whose constructor needs more than its `args`."""

    def __init__(self, first: object, second: object) -> None:
        super().__init__(first)
        self.second = second

    def __reduce__(self) -> Any:
        raise TypeError("not picklable")


def _cycle() -> BaseException:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    return first


ANY_ERROR: MappingProxyType[str, Callable[[], BaseException]] = MappingProxyType(
    {
        "ValueError": lambda: ValueError("an ordinary error"),
        "StopIteration": lambda: StopIteration("nothing fits"),
        "StopAsyncIteration": StopAsyncIteration,
        "GeneratorExit": GeneratorExit,
        "KeyboardInterrupt": KeyboardInterrupt,
        "SystemExit": lambda: SystemExit(3),
        "CancelledError": asyncio.CancelledError,
        "RunAborted": lambda: RunAborted("a component says so"),
        "EndOfSource": lambda: EndOfSource("where none can end"),
        "MemoryError": MemoryError,
        "RecursionError": RecursionError,
        "unprintable": UnprintableError,
        "disguised": DisguisedError,
        "untruthful": UntruthfulError,
        "unpicklable": lambda: UnpicklableError(object(), object()),
        "group": lambda: BaseExceptionGroup("several", [ValueError("one"), KeyboardInterrupt()]),
        "cycle": _cycle,
        "surrogates": lambda: OSError(5, "broken \udcff name", "\udcff"),
        "large number": lambda: IndexError(2**200),
    }
)
"""Factories of errors, by name: errors that end loops or exit, that cannot be printed, copied or compared."""


@attrs.frozen
class Fails:
    """A replacement for a method, which raises a new error of a kind at each call.

    Attributes:
        kind: A name in `ANY_ERROR`.
    """

    kind: str

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Raise the error."""
        raise ANY_ERROR[self.kind]()


class RaisingData:
    """Data that raise an error of a kind on every use.

    Args:
        kind: A name in `ANY_ERROR`.
    """

    def __init__(self, kind: str) -> None:
        object.__setattr__(self, "_kind", kind)

    def __getattr__(self, name: str) -> Any:
        raise ANY_ERROR[object.__getattribute__(self, "_kind")]()

    def _raise(self, *_: Any) -> Any:
        raise ANY_ERROR[object.__getattribute__(self, "_kind")]()

    __str__ = __repr__ = __bytes__ = __len__ = __iter__ = __bool__ = __float__ = __index__ = _raise
    __getitem__ = __contains__ = __eq__ = __hash__ = __add__ = __radd__ = __sub__ = __mul__ = __rmul__ = _raise
    __truediv__ = __rtruediv__ = __array__ = __reduce_ex__ = __copy__ = __deepcopy__ = _raise


ENDING = ("ValueError", "StopIteration", "SystemExit", "KeyboardInterrupt", "unprintable")
"""Kinds that the contracts try: an ordinary error, and samples of those that may end more than they should."""
