"""`penstock shm`: what is in shared memory, and removing what dead runs left there."""

from __future__ import annotations

from collections.abc import Sequence

import click

from penstock_shm.place import KINDS

_kinds = click.argument("kinds", nargs=-1, type=click.Choice(KINDS), metavar="[channel] [array] [objects]")


@click.group(short_help="List what is in shared memory, and remove what is left.")
def shm() -> None:
    """List channels, arrays and object stores of this user, and remove those that no living process uses."""


@shm.command()
@_kinds
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")
def ls(kinds: Sequence[str], as_json: bool) -> None:
    """List all there is, or what there is of these kinds, and whether a living process uses it."""
    from penstock_shm.cleaning import listing  # here: it needs what the help does not

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
        click.echo("Nothing is in shared memory.")


@shm.command()
@_kinds
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def clean(kinds: Sequence[str], dry_run: bool) -> None:
    """Remove everything, or what there is of these kinds, that no living process uses.

    Arrays and object stores stay when their makers end; those that were left on purpose go, too.
    """
    from penstock_shm import cleaning  # as above

    found = (cleaning.leftovers if dry_run else cleaning.clean)(kinds or KINDS)
    said = "would remove" if dry_run else "removed"
    for each in found:
        click.echo(f"{said} {each.kind} {each.name!r} ({each.size_bytes / 1e6:.1f} MB)")
    if not found:
        click.echo("Nothing is left.")
