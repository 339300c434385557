"""`penstock run FILE`, `validate FILE` and `graph FILE`: the commands for a pipeline in a file."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sized
from pathlib import Path
from typing import NoReturn

import click

from penstock.cli.console import printable, printable_lines
from penstock.compose.node import describe
from penstock.compose.pipeline import Pipeline
from penstock.config.files import SUFFIXES
from penstock.errors import ConfigError
from penstock.plugins import Plugins
from penstock.report.run_report import RunReport
from penstock.run.foreground import run_in_foreground
from penstock.suggestions import nearest

_FILE = click.argument("file", type=click.Path(path_type=Path))


@click.command()
@_FILE
@click.option("--progress/--no-progress", default=None, help="Show live statistics; the default on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def run(file: Path, progress: bool | None, as_json: bool) -> None:
    """Run the pipeline in FILE until its sources end.

    FILE is a .toml, .yaml or .json file. Ctrl-C drains the run, a second one aborts it.
    """
    pipeline = read_pipeline(file)
    run_and_finish(pipeline, progress=sys.stderr.isatty() if progress is None else progress, as_json=as_json)


@click.command()
@_FILE
@click.option(
    "--import", "import_paths", is_flag=True, help="Also import and check components that FILE names as module:name."
)
def validate(file: Path, import_paths: bool) -> None:
    """Check the pipeline in FILE without opening anything.

    Only code of penstock and of plugins is run. Components that FILE names as module:name are checked only with
    --import, which imports the module: use it for files that you would run.
    """
    pipeline = read_pipeline(file, may_import=import_paths)
    unchecked = pipeline.check(import_paths=import_paths)
    click.echo(printable(f"{file}: ok: {_count(pipeline.nodes, 'node')}, {_count(pipeline.edges, 'edge')}"))
    for node in unchecked:
        said = f"{describe(node)} is {node.use!r}, and to check it means to import it: see --import"
        click.echo(printable(f"{file}: not checked: {said}"), err=True)


@click.command()
@_FILE
@click.option("--format", "kind", type=click.Choice(["mermaid", "svg"]), default="mermaid", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write here instead of to stdout.")
def graph(file: Path, kind: str, out: Path | None) -> None:
    """Draw the pipeline in FILE. Its components are not imported."""
    pipeline = read_pipeline(file, may_import=False)
    text = pipeline.to_svg() if kind == "svg" else pipeline.to_mermaid()
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")


def read_pipeline(file: Path, *, may_import: bool = True) -> Pipeline:
    """Read a pipeline; it can import modules beside its file, as a script can.

    Args:
        file: The file.
        may_import: False does not add the modules beside the file to the path.

    Raises:
        ConfigError: it is not a pipeline.
        OSError: there is no such file, or it is a directory; a note names similar ones.
    """
    try:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        if not file.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
        if file.suffix.lower() == ".py":
            raise ConfigError(f"{file}: is a Python program, not a pipeline file: run it by `python {file}`")
        pipeline = Pipeline.read(file)
    except OSError as error:
        if meant := _meant(file):
            error.add_note(meant)
        raise
    if not may_import:
        return pipeline
    beside = str(file.absolute().parent)
    if beside not in sys.path:
        sys.path.append(beside)  # at the end, so that a file beside it cannot shadow a library
    return pipeline


def _meant(file: Path) -> str:
    """Suggest a pipeline file for one that cannot be read: inside that directory, or of a similar name."""
    inside = file.is_dir()
    try:
        names = sorted(
            one.name for one in (file if inside else file.parent).iterdir() if one.suffix.lower() in SUFFIXES
        )
    except OSError:
        return ""
    close = names[:3] if inside else nearest(file.name, names, count=3, cutoff=0.7)
    of_stem = [name for name in names if not inside and Path(name).stem == file.name]
    meant = [repr(str(file / name if inside else file.with_name(name))) for name in of_stem or close]
    return f"did you mean {' or '.join(meant)}?" if meant else ""


def run_and_finish(pipeline: Pipeline, *, progress: bool, as_json: bool) -> NoReturn:
    """Run a pipeline, print its report, and exit with its status."""
    finish(
        run_in_foreground(pipeline, progress=progress, plugins=Plugins.discover(), logs_problems=False), as_json=as_json
    )


def finish(report: RunReport, *, as_json: bool = False) -> NoReturn:
    """Print a report and exit with its status."""
    click.echo(report.to_json() if as_json else printable_lines(str(report)))
    sys.exit(report.exit_code)


def _count(things: Sized, word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"
