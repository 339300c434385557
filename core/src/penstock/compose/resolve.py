"""ResolvedNode: a node with the origin of its component, and a function that makes the component."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from penstock.component import KINDS, SupportsNodeName, supports
from penstock.compose.import_path import import_path, is_import_path
from penstock.compose.making import Maker, copy_of, is_class, is_function, makes_processors
from penstock.compose.node import NODE_OPTIONS, Node, describe, label
from penstock.error_text import message_of, text_of
from penstock.errors import ConfigError, PenstockError, PluginError, WiringError
from penstock.short_text import short
from penstock.suggestions import close_to
from penstock.user_function import form_of
from penstock.validators import is_numpy_scalar

if TYPE_CHECKING:
    from penstock.plugins import Plugins

_METHODS = {
    "source": ("open", "read", "close"),
    "decoder": ("decode", "flush", "reset"),
    "store": ("open", "write", "sync", "close"),
}


@attrs.frozen(kw_only=True)
class ResolvedNode:
    """A node whose component has been found.

    Attributes:
        node: The node.
        origin: The origin of the component, for messages: "penstock-npy 0.1.0", or the module it is imported from.
        make: Returns a component: the user's object if that is used as it is, otherwise a new one with each call.
        sample: A component, to determine its abilities.
        own: The user's object, if the component is that object, or an iterator that it reads: it can be used once.
        use: The import path of a named component, from which another process makes it; "" for an object.
    """

    node: Node
    origin: str
    make: Callable[[], Any]
    sample: Any
    own: Any = None
    use: str = ""

    @property
    def takes(self) -> str:
        """The kind of data that the component accepts."""
        return _kind(self.sample, "takes")

    @property
    def gives(self) -> str:
        """The kind of data of its records."""
        return _kind(self.sample, "gives")

    @property
    def where(self) -> str:
        """The beginning of errors: "node 'archive' (penstock-npy 0.1.0)"."""
        return f"{describe(self.node)} ({self.origin})"


def resolve(node: Node, plugins: Plugins) -> ResolvedNode:
    """Find and make the component of a node. Nothing is opened.

    Raises:
        PluginError: no plugin offers it, or it cannot be imported.
        ConfigError: a setting is unknown, missing or of a wrong type.
        WiringError: the object cannot have this role.
    """
    if node.use:
        return _resolve_name(node, plugins)
    owner = node.given if inspect.isroutine(node.given) or isinstance(node.given, type) else type(node.given)
    origin = getattr(owner, "__module__", "?")
    _check_settings(node, origin, plugins)
    return _made(node, origin, node.given)


def _check_settings(node: Node, origin: str, plugins: Plugins) -> None:
    """Check the settings of an object as those of its name: `ps.store(NpyStore(…))` is `ps.store("npy", …)`.

    Classes that no plugin offers are checked by their own validators alone. Raises ConfigError.
    """
    cls = type(node.given)
    path = f"{cls.__module__}:{cls.__qualname__}"
    if attrs.has(cls) and any(offer.component.path == path for offer in plugins.components(node.role)):
        from penstock.config import field_problems

        values = {field.name: getattr(node.given, field.name) for field in attrs.fields(cls) if field.init}
        problems = field_problems(cls, {name: value for name, value in values.items() if _is_plain(value)})
        if problems:
            raise ConfigError(f"{describe(node)} ({origin}): {'; '.join(problems)}")


def build(owner: Any, settings: Mapping[str, Any]) -> Any:
    """Make a component of this class, or a function with these settings. Raises ConfigError."""
    if isinstance(owner, type):
        try:
            if settings and (attrs.has(owner) or dataclasses.is_dataclass(owner)) and _is_plain(settings):
                from penstock.config import from_plain

                return from_plain(owner, dict(settings))
            missing = _missing(owner, settings)
            if missing:
                raise ConfigError("; ".join(f"$.{name}: is missing" for name in missing))
            return _call(owner, settings)
        except ConfigError as error:
            said = "; ".join(line.removeprefix("$: ") for line in str(error).splitlines())
            raise ConfigError(f"{said}{_hints(owner, settings, said)}") from error
    if not settings:
        return owner
    known = inspect.signature(owner).parameters
    for key in settings:
        if key not in known:
            near = close_to(key, [*known, *NODE_OPTIONS])
            raise ConfigError(f"$.{key}: {label_of(owner)} has no setting of this name{near}")
    return functools.partial(owner, **settings)


def _missing(owner: type, settings: Mapping[str, Any]) -> list[str]:
    """Return the settings that a class requires and that are not among these."""
    try:
        parameters = inspect.signature(owner).parameters.values()
    except (TypeError, ValueError):  # a class written in C
        return []
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in several and one.name not in settings
    ]


def _hints(owner: type, settings: Mapping[str, Any], said: str) -> str:
    """Return suggestions for misspelled settings that an error does not name: options of a node, or other settings."""
    try:
        parameters = inspect.signature(owner).parameters
    except (TypeError, ValueError):  # a class written in C
        return ""
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return ""
    unknown = [key for key in settings if key not in parameters and f"{key!r}; did you mean" not in said]
    near = {key: close_to(key, [*parameters, *NODE_OPTIONS]) for key in unknown}
    return "".join(f"; {key!r} is not a setting{hint}" for key, hint in near.items() if hint)


def label_of(owner: Any) -> str:
    """Return the name of a function or class."""
    return str(getattr(owner, "__qualname__", owner))


def _resolve_name(node: Node, plugins: Plugins) -> ResolvedNode:
    try:
        if is_import_path(node.use):
            owner, origin, path = import_path(node.use), node.use.partition(":")[0], node.use
        else:
            offer = plugins.find(node.role, node.use)
            owner, origin = plugins.load(node.role, node.use), f"{offer.plugin} {offer.version}"
            path = offer.component.path
    except PluginError as error:
        raise type(error)(f"{describe(node)}: {error}" if node.name else str(error)) from error
    return _made(node, origin, owner, use=path)


def _made(node: Node, origin: str, given: Any, *, use: str = "") -> ResolvedNode:
    """Decide whether the component is the user's object or a new one, and check it; see penstock.compose.making."""
    where = f"{describe(node)} ({origin})"
    own: Any = None
    try:
        make, own = _maker(node, given)
    except PenstockError as error:
        raise type(error)(f"{where}: {error}") from error
    except Exception as error:  # a user's class or factory may raise anything
        raise WiringError(f"{where}: {label(node)} cannot be made: {text_of(error)}") from error

    def make_there() -> Any:
        try:
            return _with_node_name(node, make())
        except PenstockError as error:
            raise type(error)(f"{where}: {error}") from error

    sample = _with_node_name(node, make.first if isinstance(make, Maker) else make())
    _check(node, where, sample, is_made=isinstance(make, Maker) and make.is_factory)
    return ResolvedNode(node=node, origin=origin, make=make_there, sample=sample, own=own, use=use)


def _with_node_name(node: Node, component: Any) -> Any:
    """Pass the name of its node to a component that supports it."""
    if supports(component, SupportsNodeName):
        component.take_node_name(node.name or "")
    return component


def _maker(node: Node, given: Any) -> tuple[Callable[[], Any], Any]:
    """Return the function that makes the component of a node, and the user's object if the component is that."""
    if isinstance(given, type):
        if node.role == "processor":
            makes_processors(given)  # raises
        return Maker(lambda: build(given, node.settings)), None
    is_iterable = node.role == "source" and not _plays(given, node.role)
    if node.settings and not is_iterable:
        given = build(given, node.settings)
    if is_class(given):
        if node.role == "processor":
            makes_processors(given)  # raises
        return Maker(lambda: _call(given, {})), None
    if is_iterable:
        if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Mapping)):
            call = f" (call the function: {label(node)}())" if inspect.isgeneratorfunction(given) else ""
            raise WiringError(f"{given!r} is not a source: pass a component, a name or an iterable{call}")
        from penstock.builtin.iterable import IterableSource

        one_pass = isinstance(given, Iterator) and node.place == "thread"
        said = {key: node.settings.get(key) for key in ("channel", "reuses_buffers")}
        return lambda: IterableSource(items=given, **said), given if one_pass else None
    if node.role in ("source", "store"):
        return lambda: given, getattr(given, "stands_for", given) if node.place == "thread" else None
    if node.role == "decoder" and not hasattr(given, "decode") and callable(given):
        return Maker(given, is_factory=True), None
    if node.role == "processor":
        if makes_processors(given):
            return Maker(given, is_factory=True), None
        if is_function(given):
            return lambda: given, None
        if node.workers == 1 or node.place == "process":  # each process receives its own copy
            is_shared = isinstance(given, (functools.partial, types.MethodType)) or node.place == "process"
            return lambda: given, None if is_shared else given
    try:
        return Maker(lambda: copy_of(given)), None
    except WiringError as error:
        several = "each channel has a decoder of its own" if node.role == "decoder" else f"workers={node.workers}"
        remedy = f"pass the class, or a function that makes one (lambda: {type(given).__qualname__}(...))" + (
            "" if node.role == "decoder" else ", or a function that calls it, if several threads may call it at once"
        )
        raise WiringError(
            f"{several}, and this {type(given).__qualname__} cannot be copied: {error}; {remedy}"
        ) from error


def _plays(thing: Any, role: str) -> bool:
    """Return whether this is meant as a component of a role, complete or not, rather than as an iterable.

    An open file has `read` and `close`, and is an iterable of lines.
    """
    lacks = _lacks(thing, role)
    return not lacks or (hasattr(thing, "read") and not isinstance(thing, Iterable))


def _lacks(thing: Any, role: str) -> list[str]:
    """Return the methods that a component of a role must have, and this has not."""
    return [name for name in _METHODS.get(role, ("__call__",)) if not callable(getattr(thing, name, None))]


def _check(node: Node, where: str, sample: Any, *, is_made: bool) -> None:
    """Raise WiringError unless a component has the methods of its role."""
    missing = _lacks(sample, node.role)
    if missing:
        made = f"it is called without arguments, and made {short(sample)}, which" if is_made else "it"
        raise WiringError(
            f"{where}: {label(node)} cannot be a {node.role}: {made} has no {', '.join(missing)}; "
            f"see the contract of a {node.role}"
        )
    call = getattr(sample, "__call__", None)  # noqa: B004 - the method itself is looked at
    if any(
        kind(thing) for kind in (inspect.iscoroutinefunction, inspect.isasyncgenfunction) for thing in (sample, call)
    ):
        raise WiringError(
            f"{where}: {label(node)} is async, and a run calls plain functions: pass a function that waits for it"
        )
    if node.role == "processor":
        try:
            form_of(sample)
        except WiringError as error:
            raise WiringError(f"{where}: {label(node)}: {error}") from None


def _call(owner: Any, settings: Mapping[str, Any]) -> Any:
    try:
        return owner(**settings)
    except PenstockError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{label_of(owner)}: {message_of(error)}") from error


def _kind(component: Any, name: str) -> str:
    value = getattr(component, name, "any")
    return value if value in KINDS else "any"


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(part) for part in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, (str, int, float, bool)) or is_numpy_scalar(value)
