"""`penstock lmdb`: inspect, verify, compact and export an LMDB file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from penstock.cli.subcommands import SubcommandGroup

_SHOWN = 20
_path = click.argument("path", type=click.Path(path_type=Path, exists=True))
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")


@click.group(cls=SubcommandGroup, short_help="Inspect, verify, compact and export LMDB files.")
def lmdb() -> None:
    """Work on the LMDB files of penstock: those of the lmdb store, and of LMDBStore."""


@lmdb.command()
@_path
@_as_json
def info(path: Path, as_json: bool) -> None:
    """Describe the file at PATH.

    Prints its records, times, sizes, positions, and readers.
    """
    from penstock_lmdb.inspection import describe  # here: the help needs no lmdb

    _print(describe(path), as_json)


@lmdb.command()
@_path
@_as_json
def verify(path: Path, as_json: bool) -> None:
    """Read every page and every record of the file at PATH.

    Exits with 1 if there is a problem.
    """
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
@click.option("--to", type=click.Path(path_type=Path), help="Write the copy here, and leave the file unchanged.")
def compact(path: Path, to: Path | None) -> None:
    """Free the space of deleted records in the file at PATH.

    The file is replaced with a compacted copy. No other process may have the file open, unless --to is given.
    """
    from penstock_lmdb.inspection import compact as copy  # as above

    before, after = copy(path, to)
    click.echo(f"{to or path}: {after / 1e6:.1f} MB of {before / 1e6:.1f} MB")


@lmdb.command()
@_path
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--as", "form", type=click.Choice(("npy", "npz", "json")), help="Default: the suffix of TARGET.")
@click.option("--prefix", default="", help="Only keys that begin with this.")
def export(path: Path, target: Path, form: str | None, prefix: str) -> None:
    """Write the content of the file at PATH to TARGET.

    npy: a directory with a file for each array; npz: one file of all arrays; json: one file with all records, with
    their coordinates and metadata. Existing files are never overwritten. Pickled objects are not unpickled.
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
