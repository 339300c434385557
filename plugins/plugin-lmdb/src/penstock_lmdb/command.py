"""`penstock lmdb`: look at an LMDB file, verify and compact it, and export what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_SHOWN = 20
_path = click.argument("path", type=click.Path(path_type=Path, exists=True))
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")


@click.group(short_help="Look at, verify, compact and export LMDB files.")
def lmdb() -> None:
    """Work on the LMDB files of penstock: those of the lmdb store, and of LMDBStore."""


@lmdb.command()
@_path
@_as_json
def info(path: Path, as_json: bool) -> None:
    """Say what the file at PATH holds: records, times, sizes, positions, and who reads it."""
    from penstock_lmdb.inspection import describe  # here: it needs what the help does not

    _print(describe(path), as_json)


@lmdb.command()
@_path
@_as_json
def verify(path: Path, as_json: bool) -> None:
    """Read every page and every record of the file at PATH; exit with 1 if something is wrong."""
    from penstock_lmdb.inspection import verify as look  # as above

    count, problems = look(path)
    if as_json:
        _print({"records": count, "problems": problems}, as_json)
    else:
        for problem in problems:
            click.echo(problem)
        click.echo(f"{path}: {count} records, {len(problems) or 'no'} problem{'s' * (len(problems) != 1)}")
    if problems:
        raise SystemExit(1)


@lmdb.command()
@_path
@click.option("--to", type=click.Path(path_type=Path), help="Write the copy here, and leave the file as it is.")
def compact(path: Path, to: Path | None) -> None:
    """Give back what was deleted in the file at PATH: copy what is left, and put the copy in its place.

    Nobody else may have the file open, unless --to is given.
    """
    from penstock_lmdb.inspection import compact as copy  # as above

    before, after = copy(path, to)
    click.echo(f"{to or path}: {after / 1e6:.1f} MB of {before / 1e6:.1f} MB")


@lmdb.command()
@_path
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--as", "form", type=click.Choice(("npy", "npz", "json")), help="Default: how TARGET ends.")
@click.option("--prefix", default="", help="Only keys that begin with this.")
def export(path: Path, target: Path, form: str | None, prefix: str) -> None:
    """Write what the file at PATH holds to TARGET.

    npy: a directory with a file for each array; npz: one file of all arrays; json: one file with all records, with
    their coordinates and metadata. Files that are there are never overwritten. Nothing that was pickled is unpickled.
    """
    from penstock_lmdb.export import export as write  # as above

    form = form or {".npz": "npz", ".json": "json"}.get(target.suffix, "npy")
    written, left_out = write(path, target, form, prefix)
    for key, why in left_out[:_SHOWN]:
        click.echo(f"left out {key!r}: {why}", err=True)
    if left_out[_SHOWN:]:
        click.echo(f"left out {len(left_out) - _SHOWN} more", err=True)
    click.echo(f"{target}: {written} of {written + len(left_out)} records")
    if left_out:
        raise SystemExit(1)


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps(facts, default=str, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:{width}}  {value}")
