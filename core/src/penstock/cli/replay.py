"""`penstock replay DIR`: send dead letters through a pipeline again."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from penstock.cli.console import printable
from penstock.cli.run import read_pipeline, run_and_finish
from penstock.compose.factories import source
from penstock.compose.node import Flow, Node
from penstock.compose.pipeline import Pipeline
from penstock.dead_letters import LOG, read_dead_letters
from penstock.errors import WiringError


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--into", type=click.Path(path_type=Path), help="The pipeline to send them through; without it, list them."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def replay(directory: Path, into: Path | None, as_json: bool) -> None:
    """List dead letters, or send them through a pipeline.

    Each record in DIRECTORY enters the pipeline at the node where it failed; the pipeline's own sources are omitted.
    The dead letters are kept: remove them once a run was ok.
    """
    if not any(directory.rglob(LOG)):
        raise click.ClickException(f"{directory}: no dead letters in or below it")
    if into is None:
        damaged: list[Exception] = []
        for letter in read_dead_letters(directory, lambda _, error: damaged.append(error)):
            facts = {"tries": 1, "error": "", "message": "", "component": "", **letter.metadata}
            tries = f"{facts['tries']} {'try' if facts['tries'] == 1 else 'tries'}"
            said = (
                f"{facts['node']}: record {letter.seq} of channel {letter.channel!r}: {facts['error']}: "
                f"{facts['message']} ({tries}, {facts['component']})"
            )
            click.echo(printable(" ".join(said.split())))
        for error in damaged:
            click.echo(printable(f"cannot be read: {error}"), err=True)
        if damaged:
            sys.exit(1)
        click.echo(
            printable(f"penstock: to send them through again: penstock replay {directory} --into FILE"), err=True
        )
        return
    run_and_finish(replayed(read_pipeline(into), directory), progress=sys.stderr.isatty(), as_json=as_json)


def replayed(pipeline: Pipeline, directory: Path) -> Pipeline:
    """Return the pipeline with dead letters instead of its sources, each entering where it failed.

    A record that failed at a source, because its own fields were wrong, enters behind it. A log that cannot be read
    does not stop the others: the run names it, and is not ok.

    Raises:
        WiringError: a letter failed at a node that the pipeline does not have, or no letter can be read.
    """
    damaged: list[Exception] = []
    failed_at = {
        str(letter.metadata["node"]) for letter in read_dead_letters(directory, lambda _, error: damaged.append(error))
    }
    if damaged and not failed_at:
        raise WiringError(f"no dead letter in {directory} can be read: {damaged[0]}")
    nodes: dict[str, Node] = {node.name or "": node for node in pipeline.nodes if node.role != "source"}
    behind = {node.name or "": [b for a, b, _ in pipeline.edges if a == node.name] for node in pipeline.nodes}
    enters = {name: [name] if name in nodes else behind.get(name, []) for name in failed_at}
    unknown = sorted(name for name, targets in enters.items() if not targets)
    if unknown:
        raise WiringError(
            f"dead letters of node {', '.join(unknown)!r} in {directory}: pipeline {pipeline.name!r} has no such node"
        )
    edges = tuple((nodes[a], nodes[b], edge) for a, b, edge in pipeline.edges if a in nodes and b in nodes)
    reached = _reached({target for targets in enters.values() for target in targets}, pipeline)
    flow = Flow(
        tuple(node for name, node in nodes.items() if name in reached),
        tuple(edge for edge in edges if (edge[0].name or "") in reached),
        (),
    )
    entries = []
    for name in sorted(failed_at):
        letters = Flow.of(source("dead-letters", directory=str(directory), node=name, name=f"letters-{name}"))
        entries += [letters >> nodes[target] for target in enters[name]]
    return Pipeline(flow, *entries, name=f"{pipeline.name}-replay", dead_letters=pipeline.dead_letters)


def _reached(names: set[str], pipeline: Pipeline) -> set[str]:
    reached = set(names)
    while True:
        more = {after for before, after, _ in pipeline.edges if before in reached} - reached
        if not more:
            return reached
        reached |= more
