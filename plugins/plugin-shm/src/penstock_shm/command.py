"""`penstock shm`: list shared memory, and remove the leftovers of dead runs."""

from __future__ import annotations

from collections.abc import Sequence

import click

from penstock.cli.subcommands import SubcommandGroup
from penstock_shm.directory import KINDS

_kinds = click.argument("kinds", nargs=-1, type=click.Choice(KINDS), metavar="[channel] [array] [objects]")


@click.group(cls=SubcommandGroup, short_help="List shared memory, and remove leftovers.")
def shm() -> None:
    """List channels, arrays and object stores of this user, and remove those that no living process uses."""


@shm.command()
@_kinds
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")
def ls(kinds: Sequence[str], as_json: bool) -> None:
    """List everything, or only these kinds, and whether a living process uses it."""
    from penstock_shm.cleaning import listing  # imported here, so that --help stays light

    found = listing(kinds or KINDS)
    if as_json:
        import json

        fields = ("kind", "name", "path", "size_bytes", "in_use", "processes")
        click.echo(json.dumps([{f: getattr(each, f) for f in fields} for each in found], default=str, indent=2))
        return
    for each in found:
        state = "in use" if each.in_use else "left"
        users = f" by {', '.join(map(str, each.processes))}" if each.processes else ""
        click.echo(f"{each.kind:8} {each.size_bytes / 1e6:10.1f} MB  {each.name!r}  {state}{users}")
    if not found:
        click.echo("Shared memory is empty.")


@shm.command()
@_kinds
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
def clean(kinds: Sequence[str], dry_run: bool) -> None:
    """Remove everything, or only these kinds, that no living process uses.

    Arrays and object stores outlive their creators; those that were kept on purpose are removed as well.
    """
    from penstock_shm import cleaning  # as above

    found = (cleaning.leftovers if dry_run else cleaning.clean)(kinds or KINDS)
    verb = "would remove" if dry_run else "removed"
    for each in found:
        click.echo(f"{verb} {each.kind} {each.name!r} ({each.size_bytes / 1e6:.1f} MB)")
    if not found:
        click.echo("Nothing is left.")
