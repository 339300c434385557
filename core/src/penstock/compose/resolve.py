"""Part: a node resolved to what it stands for: where its component comes from and how a fresh one is made."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from penstock.component import KINDS
from penstock.compose.node import Node, describe, label
from penstock.errors import ComponentLoadError, ConfigError, PenstockError, PluginError, WiringError
from penstock.user_function import form_of

if TYPE_CHECKING:
    from penstock.plugins import Plugins

_METHODS = {
    "source": ("open", "read", "close"),
    "decoder": ("decode", "flush", "reset"),
    "store": ("open", "write", "sync", "close"),
}


@attrs.frozen(kw_only=True)
class Part:
    """What a node stands for.

    Attributes:
        node: The node.
        origin: Who offers the component, for messages: "penstock-npy 0.1.0", or the module it is imported from.
        make: Return a component, as new; each call gives another one, but for functions and iterables.
        sample: One component, never opened, to ask what it can do.
        address: The import path and the settings by which another process makes the same; None if none can.
    """

    node: Node
    origin: str
    make: Callable[[], Any]
    sample: Any
    address: tuple[str, Mapping[str, Any]] | None = None

    @property
    def takes(self) -> str:
        """What it takes as data."""
        return _kind(self.sample, "takes")

    @property
    def gives(self) -> str:
        """What its records carry as data."""
        return _kind(self.sample, "gives")

    @property
    def where(self) -> str:
        """What errors begin with: "node 'archive' (penstock-npy 0.1.0)"."""
        return f"{describe(self.node)} ({self.origin})"


def resolve(node: Node, plugins: Plugins) -> Part:
    """Find and make the component of a node. Nothing is opened.

    Raises:
        PluginError: no plugin offers it, or it cannot be imported.
        ConfigError: a setting is unknown, missing or of a wrong type.
        WiringError: what was given cannot play this role.
    """
    if node.use:
        return _resolve_name(node, plugins)
    given = node.given
    make: Callable[[], Any]
    if node.role == "source" and not hasattr(given, "read"):
        if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Mapping)):
            raise WiringError(f"{describe(node)}: {given!r} is no source: give a component, a name or an iterable")
        from penstock.builtin.iterable import IterableSource

        make = lambda: IterableSource(items=given)  # noqa: E731 - one expression, like its neighbours
    elif attrs.has(type(given)):
        make = lambda: attrs.evolve(given)  # noqa: E731 - one expression, like its neighbours
    else:
        make = lambda: given  # noqa: E731 - one expression, like its neighbours
    owner = given if inspect.isfunction(given) else type(given)
    return _part(node, getattr(owner, "__module__", "?"), make, address_of(given))


def import_path(path: str) -> Any:
    """Import "package.module:name" and return the object. Raises ComponentLoadError."""
    module, _, name = path.partition(":")
    try:
        found = importlib.import_module(module)
        for step in name.split("."):
            found = getattr(found, step)
    except Exception as error:  # whatever the module does while it is imported
        raise ComponentLoadError(f"{path!r} cannot be imported: {type(error).__name__}: {error}") from error
    return found


def path_of(thing: Any) -> str | None:
    """Return "module:name" if another process can import this function or class by it, else None."""
    owner = thing if hasattr(thing, "__qualname__") else type(thing)
    module, name = getattr(owner, "__module__", None), getattr(owner, "__qualname__", "")
    if not module or module == "__main__" or "<" in name:
        return None
    return f"{module}:{name}"


def address_of(given: Any) -> tuple[str, dict[str, Any]] | None:
    """Return the import path and the settings by which a file or another process can make what was given, or None."""
    path = path_of(given)
    component = attrs.has(type(given))
    if path is None or (not component and not hasattr(given, "__qualname__")):
        return None
    settings = {}
    if component:
        for field in attrs.fields(type(given)):
            if field.init and getattr(given, field.name) != _default(field, given):
                settings[field.alias or field.name] = getattr(given, field.name)
    return path, settings


def build(owner: Any, settings: Mapping[str, Any]) -> Any:
    """Make a component of this class, or a function with these settings. Raises ConfigError."""
    if isinstance(owner, type):
        if settings and attrs.has(owner) and _is_plain(settings):
            from penstock.config import from_plain

            return from_plain(owner, dict(settings))
        return _call(owner, settings)
    if not settings:
        return owner
    import functools

    known = inspect.signature(owner).parameters
    for key in settings:
        if key not in known:
            raise ConfigError(f"$.{key}: {label_of(owner)} has no setting of this name")
    return functools.partial(owner, **settings)


def label_of(owner: Any) -> str:
    """Return what a function or class calls itself."""
    return str(getattr(owner, "__qualname__", owner))


def _resolve_name(node: Node, plugins: Plugins) -> Part:
    try:
        if (":" in node.use and "." in node.use.partition(":")[0]) or (":" in node.use and "-" not in node.use):
            owner, origin, path = import_path(node.use), node.use.partition(":")[0], node.use
        else:
            offer = plugins.find(node.role, node.use)
            owner, origin = plugins.load(node.role, node.use), f"{offer.plugin} {offer.version}"
            path = offer.component.path
    except PluginError as error:
        raise type(error)(f"{describe(node)}: {error}" if node.name else str(error)) from error
    settings = node.settings

    def make() -> Any:
        try:
            return build(owner, settings)
        except PenstockError as error:
            raise type(error)(f"{describe(node)} ({origin}): {error}") from error

    return _part(node, origin, make, (path, settings))


def _part(
    node: Node, origin: str, make: Callable[[], Any], address: tuple[str, Mapping[str, Any]] | None = None
) -> Part:
    sample = make()
    missing = [name for name in _METHODS.get(node.role, ("__call__",)) if not callable(getattr(sample, name, None))]
    if missing:
        raise WiringError(
            f"{describe(node)} ({origin}): {label(node)} cannot be a {node.role}: it has no {', '.join(missing)}; "
            f"see the contract of a {node.role}"
        )
    if inspect.iscoroutinefunction(sample) or inspect.iscoroutinefunction(getattr(sample, "__call__", None)):  # noqa: B004 - the method itself is looked at
        raise WiringError(
            f"{describe(node)} ({origin}): {label(node)} is async, and a run calls plain functions: let it do its "
            "waiting in a function of its own"
        )
    if node.role == "processor":
        try:
            form_of(sample)
        except TypeError as error:
            raise WiringError(f"{describe(node)} ({origin}): {label(node)} {error}") from None
    return Part(node=node, origin=origin, make=make, sample=sample, address=address)


def _call(owner: Any, settings: Mapping[str, Any]) -> Any:
    try:
        return owner(**settings)
    except PenstockError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{label_of(owner)}: {error}") from error


def _kind(component: Any, name: str) -> str:
    value = getattr(component, name, "any")
    return value if value in KINDS else "any"


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(part) for part in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, (str, int, float, bool))


def _default(field: attrs.Attribute[Any], given: Any) -> Any:
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # attrs.Factory is a class at run time
        return default.factory(given) if default.takes_self else default.factory()
    return default
