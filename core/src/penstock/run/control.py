"""Control: a channel whose records are actions on its own run."""

from __future__ import annotations

import inspect
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import attrs

from penstock.compose.factories import processor
from penstock.compose.factories import source as source_node
from penstock.compose.import_path import import_path, is_import_path
from penstock.compose.making import settings_of
from penstock.compose.node import Flow, Node, describe
from penstock.error_text import text_of
from penstock.errors import ConfigError, PenstockError, RunError, UnknownOptionError, WiringError
from penstock.run.run import Run, acts_for
from penstock.short_text import short
from penstock.suggestions import close_to, nearest
from penstock.validators import mapping

_log = logging.getLogger("penstock.control")

GIVEN = ("create", "delete", "update", "pause", "resume", "stats")
"""The actions that are built into penstock."""
_OPTIONS = ("actions", "given", "allow")
_MOST_WAITING = 1000


def control(
    component: Any,
    /,
    *,
    actions: Mapping[str, Any] | None = None,
    given: Iterable[str] = GIVEN,
    allow: Iterable[Any] = (),
    **settings: Any,
) -> Flow:
    """Make a control channel of a source: its records are actions, its output is the answers.

    Args:
        component: The component, as for `ps.source`, or a source node.
        actions: The user's own actions: name to a function of (run, argument), or the import path of one. Where a
            built-in action has the same name, the user's is called.
        given: Which of the built-in actions may be called; () for none.
        allow: Classes and functions, or their import paths ("my.module:Class"), that `create` may use in addition to
            the components that plugins offer. Nothing else is imported for a message.
        settings: The settings of the source, as for `ps.source`; those of a node are set where it is made.

    Raises:
        ConfigError: an option is wrong or unknown.
        WiringError: the node is not a source.
    """
    made = Control(actions={} if actions is None else actions, given=given, allow=allow)
    channel = _channel(component, settings)
    return channel >> processor(made, name=f"{channel.name or 'control'}-actions")


def _channel(component: Any, settings: Mapping[str, Any]) -> Node:
    if not isinstance(component, str):
        for key in settings:
            if nearest(key, _OPTIONS, cutoff=0.8):
                raise UnknownOptionError(f"ps.control() has no option {key!r}{close_to(key, _OPTIONS)}")
    if not isinstance(component, Node):
        return source_node(component, **settings)
    if component.role != "source":
        raise WiringError(
            f"ps.control({short(component)}): is a {component.role}: pass a source, which returns actions"
        )
    if settings:
        raise ConfigError(f"ps.control({short(component)}): {', '.join(settings)}: set options where the node is made")
    return component


_OWN_PATH = f"{__name__}:Control"
"""The name of a control channel in a pipeline file."""


def _import_paths(allowed: Iterable[Any]) -> tuple[str, ...]:
    """Return classes, functions and import paths as import paths. Raises ConfigError for an object without one."""
    if isinstance(allowed, str) or not isinstance(allowed, Iterable):
        raise ConfigError(f"allow={short(allowed)}: must be a list, as in allow=[{short(allowed)}]")
    paths = []
    for one in allowed:
        path = one if isinstance(one, str) else f"{getattr(one, '__module__', '')}:{getattr(one, '__qualname__', '<')}"
        if not is_import_path(path) or "<" in path:
            raise ConfigError(
                f"allow: {short(one)} has no import path: list 'module:name', or a class or function of a module"
            )
        paths.append(path)
    return tuple(paths)


def _names(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigError(f"given={short(given)}: must be a list, as in given=[{GIVEN[0]!r}]")
    return tuple(given)


def _are_actions(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    mapping(_, field, value)
    for name, action in value.items():
        if not callable(action) and not (isinstance(action, str) and is_import_path(action)):
            raise ConfigError(
                f"actions[{name!r}]={short(action)}: must be a function of (run, argument), or 'module:name'"
            )


@attrs.define(kw_only=True)
class Control:
    """Carry out actions, one after the other, in a separate thread, and return an answer record for each.

    A record is an action if its data is a mapping with `action` and, if needed, `argument`, or JSON of such a mapping
    (text or bytes). If its metadata has a `key`, the key is the action and the data is the argument. The data of the
    answer is a mapping with `action`, `ok`, and `result` or `error`. Only listed actions can be called; an unknown or
    failed action is answered with an error, and never ends the run.

    create: `argument` is a pipeline as plain data (`nodes`, `edges`), whose edges may name running nodes; returns the
    names of the new nodes. Its components are those that plugins offer, or that `allow` lists.
    delete: `argument` is a name or a list of names. A deletion that would leave records without a consumer is refused,
    and so is the deletion of the channel itself, which would wait for its own end.
    update: `argument` is `{"node": name, "settings": {...}}`; changes these settings, but not those of a control
    channel.
    pause, resume: `argument` is the name of a source. stats: returns the account.

    Attributes:
        actions: The user's own actions: name to function of (run, argument), or its import path.
        given: Which of the actions above may be called.
        allow: Classes and functions that `create` may use in addition to the components of plugins.
    """

    gives: ClassVar[str] = "mapping"

    actions: Mapping[str, Any] = attrs.field(factory=dict, validator=_are_actions)
    given: tuple[str, ...] = attrs.field(default=GIVEN, converter=_names)
    allow: tuple[str, ...] = attrs.field(default=(), converter=_import_paths)
    _run: Run | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _todo: queue.Queue[Any] = attrs.field(factory=queue.Queue, init=False, repr=False, eq=False)
    _answers: queue.SimpleQueue[Any] = attrs.field(factory=queue.SimpleQueue, init=False, repr=False, eq=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        unknown = [name for name in self.given if name not in GIVEN]
        if unknown:
            near = close_to(str(unknown[0]), GIVEN)
            raise ConfigError(
                f"given: there is no action {', '.join(map(str, unknown))}; there are {', '.join(GIVEN)}{near}"
            )

    def bind(self, run: Run) -> None:
        """Set the run to act on; called by the run before `open`."""
        self._run = run

    def open(self) -> None:
        """Find the actions that are named by import path, and start the thread."""
        calls = {name: import_path(call) if isinstance(call, str) else call for name, call in self.actions.items()}
        self._todo = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._work, args=(calls,), name="penstock control", daemon=True)
        self._thread.start()

    def __call__(self, record: Any) -> list[Any] | None:
        """Queue an action; return the answers that are ready."""
        self._todo.put(record)
        return self.expire()

    def _work(self, calls: Mapping[str, Callable[..., Any]]) -> None:
        if self._run is not None:
            acts_for(self._run, self)
        while (record := self._todo.get()) is not None:
            action, argument = "", None
            try:
                action, argument = _parse(record)
                answer = {"action": action, "ok": True, "result": self._act(calls, action, argument)}
            except BaseException as error:  # any error of an action is answered and must not end the channel
                _log.warning("control: %s", text_of(error))
                answer = {"action": action, "ok": False, "error": text_of(error)}
            self._answers.put(record.replace(data=answer))

    def _act(self, calls: Mapping[str, Callable[..., Any]], action: str, argument: Any) -> Any:
        if self._run is None:
            raise RunError("the control channel belongs to no run")
        if action in calls:
            return calls[action](self._run, argument)
        if action not in self.given:
            raise RunError(f"no action {action!r}; there are {', '.join([*calls, *self.given])}")
        return getattr(self, f"_{action}")(self._run, argument)

    def _create(self, run: Run, argument: Any) -> list[str]:
        from penstock.compose.graph_file import flow_from_plain

        _check_argument("create", argument, isinstance(argument, Mapping), "a pipeline as plain data (nodes, edges)")
        flow = flow_from_plain(argument, run.node_names(), run.node)
        running = set(run.node_names())
        for node in flow.nodes:
            if node.name not in running:
                self._check_may_be_made(node)
        return run.add(flow)

    def _check_may_be_made(self, node: Node) -> None:
        """Raise ConfigError if a node names an import path that the author did not list; it is not imported."""
        errors = node.retry.import_paths() if node.retry else []
        for role, path in [(node.role, node.use), *(("exception", path) for path in errors)]:
            if is_import_path(path) and path not in self.allow:
                raise ConfigError(
                    f"{describe(node)}: {role} {path!r} is refused in a message: only components of plugins, "
                    "and those that the author of the pipeline lists in ps.control(…, allow=[…]), are allowed"
                )

    @staticmethod
    def _delete(run: Run, argument: Any) -> None:
        names = [argument] if isinstance(argument, str) else argument
        is_list = isinstance(names, list | tuple) and all(isinstance(each, str) for each in names)
        _check_argument("delete", argument, is_list, "the name of a node, or a list of names")
        run.remove(*names)

    @staticmethod
    def _update(run: Run, argument: Any) -> None:
        is_change = isinstance(argument, Mapping) and isinstance(argument.get("settings"), Mapping)
        _check_argument("update", argument, is_change and "node" in argument, '{"node": name, "settings": {…}}')
        node = run.node(argument["node"])
        if isinstance(node.given, Control) or node.given is Control or node.use == _OWN_PATH:
            raise ConfigError(f"{describe(node)}: a message cannot change a control channel")
        run.replace(node, _with_settings(node, argument["settings"]))

    @staticmethod
    def _pause(run: Run, argument: Any) -> None:
        run.pause(argument)

    @staticmethod
    def _resume(run: Run, argument: Any) -> None:
        run.resume(argument)

    @staticmethod
    def _stats(run: Run, argument: Any) -> Any:
        return attrs.asdict(run.stats())

    def expire(self) -> list[Any]:
        """Return the answers that are ready."""
        answers = []
        while not self._answers.empty():
            answers.append(self._answers.get())
        return answers

    def wait_s(self) -> float | None:
        """Return the interval for `expire`: answers are collected ten times a second."""
        return 0.0 if not self._answers.empty() else 0.1

    def flush(self) -> list[Any]:
        """Carry out the actions that are waiting, and return the last answers."""
        self._end()
        return self.expire()

    def close(self) -> None:
        """End the thread."""
        self._end()

    def _end(self) -> None:
        if self._thread is not None:
            self._todo.put(None)
            self._thread.join()
            self._thread = None


def _check_argument(action: str, argument: Any, is_right: bool, meant: str) -> None:
    if not is_right:
        raise ConfigError(f"{action}: argument={argument!r:.80}: must be {meant}")


def _parse(record: Any) -> tuple[str, Any]:
    data = record.data
    if "key" in record.metadata:
        return str(record.metadata["key"]), _json_or(data)
    data = _json_or(data)
    if not isinstance(data, Mapping) or not isinstance(data.get("action"), str):
        raise ValueError(f'{data!r:.80} is not an action: send {{"action": "pause", "argument": "camera"}}')
    return data["action"], data.get("argument")


def _json_or(data: Any) -> Any:
    """Return the value of JSON text, or other data unchanged."""
    if isinstance(data, (bytes, str)):
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            return data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return data


def _with_settings(node: Node, settings: Mapping[str, Any]) -> Node:
    if node.use or isinstance(node.given, type):
        return attrs.evolve(node, settings={**node.settings, **settings})
    known = settings_of(node.given)
    if known is None or inspect.isroutine(node.given):
        raise RunError(f"node {node.name!r} is a function, or its settings are unknown, so that they cannot be changed")
    for key in settings:
        if key not in known:
            raise ConfigError(f"node {node.name!r}: it has no setting {key!r}{close_to(key, known)}")
    try:
        return attrs.evolve(node, given=type(node.given)(**{**known, **settings}))
    except (TypeError, PenstockError) as error:
        raise ConfigError(f"node {node.name!r}: {error}") from error
