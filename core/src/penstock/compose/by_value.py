"""By value: a component as bytes for the process that the run starts for it, including code outside of modules.

Objects of modules are sent by name; objects that exist only in this process (of `__main__`, closures, lambdas, modules
that the child would not find) are sent by value, by cloudpickle. These bytes are sent only from a run to its own child,
over the pipe that the child inherited: data from a file, a network, shared memory or a child are never unpickled.
"""

from __future__ import annotations

import functools
import inspect
import io
import os
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
import cloudpickle  # type: ignore[import-untyped]  # it has no types

from penstock.compose.making import settings_of
from penstock.compose.node import Node

_DEEPEST: Final = 4
"""The depth of attributes below the component to which an unpicklable part is searched for."""
_registering = threading.Lock()
"""Held while cloudpickle's list of modules to send by value, which is global to the process, is changed."""


def definition_of(node: Node, *, use: str = "") -> bytes:
    """Return the definition from which a child makes the component of a node; `use` is its import path, if it has one.

    Raises:
        Exception: something cannot be pickled; `why_not_sent` names it.
    """
    return _dumps(
        attrs.evolve(
            node, use=use, given=_made_from_settings(node.given), place="thread", workers=1, on_error="dead_letter"
        )
    )


def why_not_sent(node: Node) -> str:
    """Return the part of a component that cannot be sent and the reason, or ""."""
    given = _made_from_settings(node.given)
    try:
        _dumps((given, node.settings))
    except Exception as error:  # the classes of the user's objects may raise anything
        path, cause = _culprit({"settings": node.settings} if node.use else given, error)
        return f"{path}cannot be sent to another process: {cause}"
    return ""


def _made_from_settings(given: Any) -> Any:
    """Return a function that makes a component from its settings, if they are known; its state may be unpicklable."""
    settings = settings_of(given)
    if settings is None or isinstance(given, type) or inspect.isroutine(given):
        return given
    kind: Any = type(given)
    try:
        inspect.signature(kind).bind(**settings)
    except (TypeError, ValueError):  # it has an __init__ of its own
        return given
    return functools.partial(kind, **settings)


def _dumps(thing: Any) -> bytes:
    with io.BytesIO() as file, _registering:
        pickler = _Pickler(file)
        try:
            pickler.dump(thing)
        finally:
            pickler.forget()
        return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # as above
    """Cloudpickle that refuses open files, and sends by value what the child could not import."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._known: dict[str, bool] = {}
        self._registered: list[types.ModuleType] = []

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler.reducer_override`."""
        if isinstance(obj, io.IOBase) and not isinstance(obj, (io.BytesIO, io.StringIO)):
            if obj not in (sys.stdin, sys.stdout, sys.stderr):
                raise TypeError(f"{obj!r:.80} is an open file")
        elif isinstance(obj, functools._lru_cache_wrapper):  # otherwise it is sent by name, even from __main__
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        elif isinstance(obj, (type, types.FunctionType)):
            self._look_at(getattr(obj, "__module__", None))
        elif isinstance(obj, types.ModuleType):
            self._look_at(obj.__name__)
        return super().reducer_override(obj)

    def _look_at(self, name: str | None) -> None:
        module = sys.modules.get(name or "")
        if module is None or name == "__main__" or name is None:
            return
        if name not in self._known:
            self._known[name] = is_importable(module)
            if not self._known[name] and name not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
                self._registered.append(module)

    def forget(self) -> None:
        """Restore cloudpickle's list of modules."""
        for module in self._registered:
            cloudpickle.unregister_pickle_by_value(module)


def _cached(function: Any, parameters: Mapping[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def is_importable(module: types.ModuleType) -> bool:
    """Return whether another process with the same `sys.path` would find this very module."""
    name = module.__name__
    if name.partition(".")[0] in sys.stdlib_module_names:
        return True
    path: Any = None
    spec = None
    for end in [index for index, letter in enumerate(name) if letter == "."] + [len(name)]:
        try:
            found = (finder.find_spec(name[:end], path, None) for finder in sys.meta_path)
            spec = next((each for each in found if each is not None), None)
        except Exception:  # a finder may raise anything: then it cannot be imported
            return False
        if spec is None:
            return False
        path = spec.submodule_search_locations
    file = getattr(module, "__file__", None)
    return file is None or (spec is not None and spec.origin is not None and _is_same(spec.origin, file))


def _is_same(first: str, second: str) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def _culprit(thing: Any, error: Exception, depth: int = 0) -> tuple[str, Exception]:
    """Return the path to the part that cannot be sent ("its attribute 'x': its element 'y': "), and its error."""
    if depth < _DEEPEST:
        for name, part in _parts(thing):
            try:
                _dumps(part)
            except Exception as cause:  # as in why_not_sent
                path, deepest = _culprit(part, cause, depth + 1)
                return f"{name}{': ' if not path else ', '}{path}", deepest
    return "", error


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of an object, each with its name in errors."""
    if isinstance(thing, functools.partial):
        yield "", thing.func
        yield from ((f"argument {number}", value) for number, value in enumerate(thing.args))
        yield from ((f"its attribute {name!r}", value) for name, value in thing.keywords.items())
    elif isinstance(thing, types.MethodType):
        yield "", thing.__self__
    elif isinstance(thing, types.FunctionType):
        with_names = inspect.getclosurevars(thing)
        yield from ((f"its variable {name!r}", value) for name, value in with_names.nonlocals.items())
        yield from ((f"its global {name!r}", value) for name, value in with_names.globals.items())
        yield from (("one of its defaults", value) for value in thing.__defaults__ or ())
    elif isinstance(thing, type):
        yield from ((f"its {name!r}", value) for name, value in vars(thing).items() if not name.startswith("__"))
        yield from (("", value) for name, value in vars(thing).items() if inspect.isfunction(value))
    elif isinstance(thing, Mapping):
        yield from ((f"{key!r}", value) for key, value in thing.items())
    elif isinstance(thing, (list, tuple)):
        yield from ((f"element {number}", value) for number, value in enumerate(thing))
    else:
        names = [name for kind in type(thing).__mro__ for name in vars(kind).get("__slots__", ())]
        state = getattr(thing, "__dict__", {}) | {name: getattr(thing, name) for name in names if hasattr(thing, name)}
        yield from ((f"its attribute {name!r}", value) for name, value in state.items())
        yield "", type(thing)
