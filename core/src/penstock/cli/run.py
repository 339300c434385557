"""`penstock run FILE`, `validate FILE` and `graph FILE`: what can be done with a pipeline in a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from penstock.cli.console import printable_lines
from penstock.compose.pipeline import Pipeline
from penstock.plugins import Plugins
from penstock.report.run_report import RunReport
from penstock.run.foreground import run_in_foreground

_FILE = click.argument("file", type=click.Path(path_type=Path))


@click.command()
@_FILE
@click.option("--progress/--no-progress", default=None, help="Live figures; by default where stderr is a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def run(file: Path, progress: bool | None, as_json: bool) -> None:
    """Run the pipeline in FILE (.toml, .yaml, .json) until its sources end; Ctrl-C drains, a second one aborts."""
    pipeline = read_pipeline(file)
    run_and_finish(pipeline, progress=sys.stderr.isatty() if progress is None else progress, as_json=as_json)


@click.command()
@_FILE
def validate(file: Path) -> None:
    """Check the pipeline in FILE as far as that is possible without opening anything."""
    pipeline = read_pipeline(file)
    pipeline.check()
    click.echo(f"{file}: ok: {len(pipeline.nodes)} nodes, {len(pipeline.edges)} edges")


@click.command()
@_FILE
@click.option("--format", "kind", type=click.Choice(["mermaid", "svg"]), default="mermaid", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write here instead of to stdout.")
def graph(file: Path, kind: str, out: Path | None) -> None:
    """Draw the pipeline in FILE."""
    pipeline = read_pipeline(file)
    text = pipeline.to_svg() if kind == "svg" else pipeline.to_mermaid()
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")


def read_pipeline(file: Path) -> Pipeline:
    """Read a pipeline; modules beside its file can be imported by it, as those beside a script can."""
    pipeline = Pipeline.read(file)
    beside = str(file.absolute().parent)
    if beside not in sys.path:
        sys.path.append(beside)  # at the end, so that a file beside it takes no library's place
    return pipeline


def run_and_finish(pipeline: Pipeline, *, progress: bool, as_json: bool) -> NoReturn:
    """Run a pipeline, print its report, which says what is not ok, and leave with its exit status."""
    finish(run_in_foreground(pipeline, progress=progress, plugins=Plugins.discover(), is_told=False), as_json=as_json)


def finish(report: RunReport, *, as_json: bool = False) -> NoReturn:
    """Print a report and leave with its exit status."""
    click.echo(report.to_json() if as_json else printable_lines(str(report)))
    sys.exit(report.exit_code)
