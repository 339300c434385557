"""`penstock recover`: repair an archive of files."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Repair an archive of .npy files, stacks or logs.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--path", metavar="TEMPLATE", help="The template of the names, if the index is lost: '{{ seq }}.npy'.")
def recover(directory: Path, path: str | None) -> None:
    """Rebuild a lost or torn index of DIRECTORY from its files, and cut torn ends off stacks and logs.

    No array is changed. Exits with 1 if there are files that cannot be read; they are listed and left unchanged.
    """
    from penstock_npy.recover import recover as mend  # here: the help needs no numpy

    found = mend(directory, path=path)
    click.echo(
        f"{found.files} files, {len(found.added)} of them added to the index, {found.torn_lines} torn lines removed"
    )
    for name, size_bytes in sorted(found.cut.items()):
        click.echo(f"{name}: cut {size_bytes} bytes that were never finished")
    for name, reason in sorted(found.damaged.items()):
        click.echo(f"{name}: cannot be read: {reason}", err=True)
    if found.damaged:
        raise SystemExit(1)
