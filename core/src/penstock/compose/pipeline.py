"""Pipeline: a graph of components as pure data, until it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from penstock.arguments import checks_arguments, checks_arguments_besides
from penstock.compose.checks import parts_of, shape_problems
from penstock.compose.graph_file import (
    DEAD_LETTERS,
    FORMAT,
    GraphFile,
    edge_to_plain,
    flow_of,
    names_in_errors,
    node_to_plain,
)
from penstock.compose.import_path import is_import_path
from penstock.compose.node import Edge, Flow, Joinable, Node, label, name_nodes
from penstock.compose.resolve import ResolvedNode
from penstock.errors import ConfigError, WiringError
from penstock.secret_texts import refuse_secrets
from penstock.short_text import listed, short
from penstock.suggestions import close_to, suggests_keywords
from penstock.validators import check_argument, check_name, seconds, without_numpy

if TYPE_CHECKING:
    from penstock.plugins import Plugins
    from penstock.record import Record
    from penstock.report.run_report import RunReport
    from penstock.run.run import Run


class Pipeline:
    """A graph of components. Until it runs it is data: print, compare, draw, export, pickle it.

    Args:
        flows: Nodes joined by `>>`. Flows that share nodes (the same objects) are joined there.
        name: The name in reports and dead letters.
        checkpoint_every_s: Seconds between two checkpoints. After a crash, records since the last one are read again,
            if the source can.
        dead_letters: The directory under which a run keeps records that failed for good; made when first needed.
    """

    @suggests_keywords
    def __init__(
        self,
        *flows: Joinable,
        name: str = "pipeline",
        checkpoint_every_s: float = 1.0,
        dead_letters: str | Path = DEAD_LETTERS,
    ) -> None:
        checkpoint_every_s = check_argument("checkpoint_every_s", checkpoint_every_s, seconds)
        name = without_numpy(name)
        check_name("name", name)
        if not isinstance(dead_letters, (str, os.PathLike)):
            raise ConfigError(f"dead_letters={short(dead_letters)}: must be the path of a directory")
        joined = [Flow.of(flow) for flow in flows]
        for flow in joined:
            if flow.pending is not None:
                raise WiringError("a flow ends with edge(): add the node that takes its records")
        nodes = dict.fromkeys(node for flow in joined for node in flow.nodes)
        self.name = name
        self.checkpoint_every_s = float(checkpoint_every_s)
        self.dead_letters = str(dead_letters)
        self.names = name_nodes(nodes)
        self.nodes: tuple[Node, ...] = tuple(attrs.evolve(node, name=self.names[node]) for node in nodes)
        joins = dict.fromkeys(edge for flow in joined for edge in flow.edges)
        self.edges: tuple[tuple[str, str, Edge], ...] = tuple(
            (self.names[first], self.names[second], edge) for first, second, edge in joins
        )
        twice = [pair for pair in self.edges if sum(pair[:2] == other[:2] for other in self.edges) > 1]
        if twice:
            raise WiringError(f"{twice[0][0]!r} and {twice[0][1]!r} are joined twice, by different edges")

    @checks_arguments
    def name_of(self, node: Node | str) -> str:
        """Return the name that a node has in this pipeline. Raises WiringError if it is not in it."""
        if isinstance(node, Node):
            if node in self.names:
                return self.names[node]
            if node in self.nodes:
                return node.name or ""
        elif any(own.name == node for own in self.nodes):
            return node
        name = node if isinstance(node, str) else label(node)
        known = [own.name or "" for own in self.nodes]
        raise WiringError(
            f"no node {name!r} in pipeline {self.name!r}{close_to(name, known)}; it has {', '.join(known)}"
        )

    def flow(self) -> Flow:
        """Return the whole graph as one flow."""
        by_name = {node.name: node for node in self.nodes}
        return Flow(self.nodes, tuple((by_name[a], by_name[b], edge) for a, b, edge in self.edges), ())

    @checks_arguments
    def check(self, plugins: Plugins | None = None, *, import_paths: bool = True) -> tuple[Node, ...]:
        """Check everything that can be checked without opening anything; return the nodes that were not checked.

        Args:
            plugins: The plugins that offer components; None: those installed.
            import_paths: False skips the nodes that are named by an import path ("my.module:name"), and imports
                no modules except those of plugins. Those nodes are returned.

        Raises:
            WiringError, ConfigError, PluginError: something is wrong; the message names the remedy.
        """
        parts_of(self.nodes, self.edges, plugins or _discover(), import_paths=import_paths)
        return tuple(node for node in self.nodes if not import_paths and is_import_path(node.use))

    @checks_arguments
    def parts(self, plugins: Plugins | None = None) -> dict[str, ResolvedNode]:
        """Resolve the nodes, by name; raises as `check` does."""
        return parts_of(self.nodes, self.edges, plugins or _discover())

    @checks_arguments
    def run(self, *, progress: bool = False, check: bool = False, plugins: Plugins | None = None) -> RunReport:
        """Run until every source has ended, and return the report. SIGINT and SIGTERM drain; a second one aborts.

        Problems are logged as warnings, which Python prints on stderr unless logging is configured.

        Args:
            progress: Show live counters on the terminal (stderr).
            check: Raise if the run is not ok, instead of logging the problems.
            plugins: The plugins that offer components; None: those installed.

        Raises:
            WiringError, ConfigError, PluginError: before anything opens.
            RunError: a component could not be opened; all others have been closed.
            RunFailedError: `check` is set, and the report, which it carries, is not ok.
        """
        from penstock.run.foreground import run_in_foreground

        report = run_in_foreground(self, progress=progress, plugins=plugins or _discover(), logs_problems=not check)
        if check:
            report.raise_if_failed()
        return report

    @checks_arguments_besides("limit")
    def collect(
        self, *, limit: int | None = None, progress: bool = False, check: bool = False, plugins: Plugins | None = None
    ) -> list[Record]:
        """Run, and return the records that reach the stores; without a store, those that reach the last nodes.

        All of them are kept in memory, each with a copy of its array, in addition to what the stores write.

        Args:
            limit: End the run after this number of records; None: when every source has ended.
            progress: As in `run`.
            check: As in `run`. Without it, problems are logged, and the records that passed through are returned.
            plugins: As in `run`.

        Raises:
            ConfigError: `limit` is below 1.
            WiringError, ConfigError, PluginError, RunError, RunFailedError: as in `run`.
        """
        from penstock.run.collecting import collect

        return collect(self, Pipeline, limit=limit, progress=progress, check=check, plugins=plugins or _discover())

    @checks_arguments
    def start(self, *, plugins: Plugins | None = None) -> Run:
        """Open everything, start, and return the run; a `with` statement drains it. Raises as `run` does."""
        from penstock.run.run import Run

        return Run.start(self, plugins=plugins or _discover())

    # -- as data ---------------------------------------------------------------------------------------------------

    def to_plain(self) -> dict[str, Any]:
        """Return the pipeline as plain data. Raises WiringError for a component that no file can name (a lambda)."""
        plain: dict[str, Any] = {"penstock": FORMAT, "name": self.name}
        if self.checkpoint_every_s != 1.0:
            plain["checkpoint_every_s"] = self.checkpoint_every_s
        if self.dead_letters != DEAD_LETTERS:
            plain["dead_letters"] = self.dead_letters
        plain["nodes"] = [node_to_plain(node) for node in self.nodes]
        plain["edges"] = [edge_to_plain(*join) for join in self.edges]
        return plain

    @classmethod
    @checks_arguments
    def from_plain(cls, plain: Mapping[str, Any]) -> Pipeline:
        """Make a pipeline from plain data. Raises ConfigError with the path of the error (`$.nodes[1].workers`)."""
        from penstock.config import from_plain

        if not isinstance(plain, Mapping):
            raise ConfigError(f"$: must be a mapping with nodes and edges, not {type(plain).__name__}")
        with names_in_errors(plain):
            file: GraphFile = from_plain(GraphFile, dict(plain))
            if file.penstock != FORMAT:
                raise ConfigError(f"$.penstock: format {file.penstock} is unknown; this penstock reads {FORMAT}")
            flow = flow_of(file, {})
        return cls(flow, name=file.name, checkpoint_every_s=file.checkpoint_every_s, dead_letters=file.dead_letters)

    @checks_arguments
    def write(self, path: str | Path) -> None:
        """Write the pipeline to a .toml, .yaml, .yml or .json file, whole or not at all.

        Raises:
            WiringError: a component that no file can name, or settings that would be read back as different values.
            ConfigError: a setting that this kind of file cannot hold: TOML has no null.
        """
        from penstock.config import write_config

        write_config(Path(path), self._plain_for(Path(path).suffix.lower()))

    @classmethod
    @checks_arguments
    def read(cls, path: str | Path) -> Pipeline:
        """Read a pipeline from a .toml, .yaml, .yml or .json file. Raises ConfigError, which names the file.

        A file in another format is offered to plugins that read files of other systems.
        """
        from penstock.config import read_config
        from penstock.config.files import read_plain

        content = read_plain(Path(path))
        if not isinstance(content, dict) or not {"nodes", "penstock"} & content.keys():
            from penstock.compose.foreign import foreign_pipeline

            made = foreign_pipeline(content, Path(path))
            if made is not None:
                return made
        plain = read_config(Path(path))
        try:
            return cls.from_plain(plain)
        except (ConfigError, WiringError) as error:
            raise type(error)(f"{path}: {error}") from error

    def to_toml(self) -> str:
        """Return the pipeline as TOML. Raises as `write` does."""
        return self._text(".toml")

    def to_yaml(self) -> str:
        """Return the pipeline as YAML. Raises as `write` does."""
        return self._text(".yaml")

    def to_json(self) -> str:
        """Return the pipeline as JSON. Raises as `write` does."""
        return self._text(".json")

    @classmethod
    @checks_arguments
    def from_toml(cls, text: str) -> Pipeline:
        """Make a pipeline from TOML. Raises ConfigError."""
        return cls._from_text("toml", text)

    @classmethod
    def from_yaml(cls, text: str) -> Pipeline:
        """Make a pipeline from YAML. Raises ConfigError."""
        return cls._from_text("yaml", text)

    @classmethod
    def from_json(cls, text: str) -> Pipeline:
        """Make a pipeline from JSON. Raises ConfigError."""
        return cls._from_text("json", text)

    def _plain_for(self, suffix: str) -> dict[str, Any]:
        """Return the pipeline as plain data that a file with this suffix can hold. Raises as `write` does."""
        plain = self.to_plain()
        _check_no_secrets(plain)
        if suffix == ".toml":
            _check_nothing_is_none(plain)
        return plain

    def _text(self, suffix: str) -> str:
        from penstock.config import format_config

        return format_config(f"pipeline{suffix}", self._plain_for(suffix))

    @classmethod
    def _from_text(cls, kind: str, text: str) -> Pipeline:
        from penstock.config import parse_config

        if not isinstance(text, str):
            raise ConfigError(f"from_{kind}({type(text).__name__}): must be text; Pipeline.read reads a file")
        return cls.from_plain(parse_config(text, f"pipeline.{kind}"))

    def problems(self) -> list[str]:
        """Return the errors in the shape of the graph, without looking for any component."""
        return shape_problems(self.nodes, self.edges)

    def to_mermaid(self) -> str:
        """Return the graph as a mermaid flowchart."""
        from penstock.compose.drawing import to_mermaid

        return to_mermaid(self)

    def to_svg(self) -> str:
        """Return the graph as an SVG picture."""
        from penstock.compose.drawing import to_svg

        return to_svg(self)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<figure>{self.to_svg()}<figcaption>{escape(repr(self))}</figcaption></figure>"

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def __repr__(self) -> str:
        joins = [f"{first} >> {second}" for first, second, _ in self.edges]
        return f"Pipeline({self.name!r}: {listed(joins or [node.name or '' for node in self.nodes])})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pipeline):
            return NotImplemented
        try:
            return self is other or self.to_plain() == other.to_plain()
        except WiringError:  # it holds an object that no file can name: compare that object by identity
            return self._form() == other._form()

    def _form(self) -> tuple[Any, ...]:
        nodes = [
            tuple(
                id(node.given) if field.name == "given" else getattr(node, field.name) for field in attrs.fields(Node)
            )
            for node in self.nodes
        ]
        return self.name, self.checkpoint_every_s, self.dead_letters, nodes, self.edges

    __hash__ = None  # type: ignore[assignment]  # not for keys: a pipeline holds objects that may change

    def __reduce__(self) -> tuple[Any, ...]:
        return Pipeline.from_plain, (self.to_plain(),)


def _discover() -> Plugins:
    from penstock.plugins.current import installed_plugins

    return installed_plugins()


def _check_no_secrets(plain: dict[str, Any]) -> None:
    """Refuse to write passwords into a file, where they could be read."""
    for node in plain["nodes"]:
        refuse_secrets(node.get("settings", {}), f"node {node['name']!r}: settings")


def _check_nothing_is_none(value: Any, path: str = "$") -> None:
    """Refuse None: TOML cannot express it, and an omitted key is read as its default."""
    if value is None:
        raise ConfigError(f"{path} is None, which TOML cannot hold: leave it out if that is its default, or use YAML")
    if isinstance(value, dict):
        for key, part in value.items():
            _check_nothing_is_none(part, f"{path}.{key}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _check_nothing_is_none(part, f"{path}[{index}]")
