"""Making: decides which components are used as they are, and makes copies of others.

Sources and stores that a user passes are used as they are, and so is a processor with one worker. Decoders, one for
each channel, and processors with `workers=n` are made: by a class or a factory of the user, or as copies from the
settings of an object. An object that cannot be copied is refused; nothing is shared silently.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from penstock.error_text import message_of
from penstock.errors import WiringError
from penstock.user_function import FACTORY, form_of

_AS_THEY_ARE: Final = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    type,
)
"""Settings that are passed on and not copied: code, and methods of objects that the user wants to be called."""
_FROM_A_CLASS_STATEMENT: Final = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: types defined in C (generators, iterators) have a hidden state."""


def settings_of(component: Any) -> dict[str, Any] | None:
    """Return the arguments that make a component like this one, by name; None if they cannot be known.

    They are the init fields of an attrs class or a dataclass. A class without `__init__` whose object holds nothing
    has none.
    """
    kind = type(component)
    if attrs.has(kind):
        return {field.alias or field.name: getattr(component, field.name) for field in attrs.fields(kind) if field.init}
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(component, field.name) for field in dataclasses.fields(kind) if field.init}
    bare: Any = object
    if not kind.__flags__ & _FROM_A_CLASS_STATEMENT:
        return None
    if kind.__init__ is bare.__init__ and kind.__new__ is bare.__new__ and not _state_of(component):
        return {}
    return None


def copy_of(component: Any) -> Any:
    """Return a component made from copies of the settings of this one, which share no mutable object with it.

    Raises:
        WiringError: it cannot be copied; the message says why.
    """
    if isinstance(component, functools.partial):
        return functools.partial(copy_of(component.func), *component.args, **component.keywords)
    if isinstance(component, types.MethodType):
        return types.MethodType(component.__func__, copy_of(component.__self__))
    if is_function(component):
        return component
    kind = type(component)
    settings = settings_of(component)
    if settings is None:
        raise WiringError(f"{kind.__qualname__} is neither an attrs class nor a dataclass, so its settings are unknown")
    own = {}
    for name, value in settings.items():
        if callable(getattr(value, "open", None)) and callable(getattr(value, "close", None)):
            raise WiringError(f"its setting {name!r} has open() and close(): a copy of it would hide yours")
        try:
            own[name] = value if isinstance(value, _AS_THEY_ARE) else copy.deepcopy(value)
        except Exception as error:  # the classes of a user's settings may raise anything
            raise WiringError(f"its setting {name!r} cannot be copied: {error}") from error
    try:
        return kind(**own)
    except Exception as error:  # as above
        raise WiringError(f"{kind.__qualname__} cannot be made from its settings: {message_of(error)}") from error


def is_function(thing: Any) -> bool:
    """Return whether this is code without an object of the user's: it may be called by several threads.

    The user decides what a closure or a partial shares. A callable written in C counts as a function.
    """
    if isinstance(thing, functools.partial):
        return is_function(thing.func)
    if isinstance(thing, types.MethodType):
        return isinstance(thing.__self__, type)
    if isinstance(thing, type) or not callable(thing):
        return False
    return inspect.isroutine(thing) or not inspect.isfunction(getattr(type(thing), "__call__", None))  # noqa: B004 - the method itself is looked at


def makes_processors(thing: Any) -> bool:
    """Return whether this makes processors: a class of callable objects, or a callable without arguments.

    Raises:
        WiringError: it is a class whose objects cannot be called, or a function with unsupported arguments.
    """
    owner = _inner(thing)
    if isinstance(owner, type):
        if not any("__call__" in vars(each) for each in owner.__mro__):
            raise WiringError(
                f"objects of class {owner.__qualname__} cannot be called: give it __call__, or write "
                f"lambda record: {owner.__qualname__}(record.data)"
            )
        return True
    return form_of(thing) == FACTORY


def is_class(thing: Any) -> bool:
    """Return whether this is a class, possibly with arguments set by functools.partial."""
    return isinstance(_inner(thing), type)


def _inner(thing: Any) -> Any:
    while isinstance(thing, functools.partial):
        thing = thing.func
    return thing


class Maker:
    """Make components, each a new object. The first is made at once, to determine its abilities.

    Called by the threads of several workers.
    """

    def __init__(self, make: Callable[[], Any], *, is_factory: bool = False) -> None:
        self._make = make
        self.is_factory = is_factory
        self.first = make()
        self._given = [self.first] if is_factory else None
        self._unused = [self.first]
        self._lock = threading.Lock()

    def __call__(self) -> Any:
        """Return a new object. Raises WiringError if the factory returns the same object twice."""
        with self._lock:
            if self._unused:
                return self._unused.pop()
            made = self._make()
            if self._given is None:
                return made
            if any(made is other for other in self._given):
                raise WiringError(
                    f"the factory returned the same {type(made).__qualname__} again: each channel and worker needs "
                    "one of its own; create it in the factory"
                )
            self._given.append(made)
        return made


def _state_of(component: Any) -> Mapping[str, Any]:
    slots = [
        name
        for kind in type(component).__mro__
        for name in _as_tuple(vars(kind).get("__slots__", ()))
        if hasattr(component, name)
    ]
    return {**getattr(component, "__dict__", {}), **dict.fromkeys(slots)}


def _as_tuple(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)
