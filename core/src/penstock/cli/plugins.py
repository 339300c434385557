"""`penstock plugins`: list installed plugins, and why some do not work."""

from __future__ import annotations

import contextlib
import shutil
import sys
import textwrap
from typing import Any

import click

from penstock.cli.console import printable
from penstock.cli.from_plugins import PluginCommands
from penstock.cli.group import COMMANDS
from penstock.hookspecs import CONTRACT
from penstock.plugins import PluginReport, Plugins

_STYLES: dict[str, dict[str, Any]] = {
    "ok": {"fg": "green"},
    "left out": {"dim": True},
    "incompatible": {"fg": "yellow"},
    "broken": {"fg": "red", "bold": True},
}


@click.command(short_help="List the plugins, and why some do not work.")
@click.option("--why", is_flag=True, help="Show each component, and the full traceback of each failure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")
@click.pass_context
def plugins(ctx: click.Context, why: bool, as_json: bool) -> None:
    """List the plugins that are installed; exit with status 1 if one is broken."""
    with contextlib.redirect_stdout(sys.stderr):  # output of a plugin must not mix with parsable output
        found = Plugins.discover()
    if as_json:
        import json  # imported here: the table does not need it

        click.echo(json.dumps(_as_data(found), indent=2, ensure_ascii=False))
    else:
        _print_table(found, with_details=why)
    ctx.exit(1 if any(report.status == "broken" for report in found) else 0)


def _as_data(found: Plugins) -> dict[str, Any]:
    import attrs  # imported here: the table does not need it

    return {
        "contract": CONTRACT,
        "plugins": [attrs.asdict(report) for report in found],
        "ambiguous": [
            {"role": offers[0].role, "name": offers[0].component.name, "offered_as": [o.qualified for o in offers]}
            for offers in found.ambiguous()
        ],
    }


def _print_table(found: Plugins, *, with_details: bool) -> None:
    """Print a line for each plugin. Without rich: importing it would take a third of this command's time."""
    reports = list(found)
    if not reports:
        click.echo(
            "No plugin is installed, not even penstock's own: install penstock instead of only adding it to the path."
        )
        return
    texts = [("plugin", "version", "status", ""), *((r.name, r.version, str(r.status), _offers_of(r)) for r in reports)]
    rows = [[printable(text) for text in row] for row in texts]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, version, status, said in rows:
        first = f"{name:{widths[0]}}  {version:{widths[1]}}  "
        styled = click.style(f"{status:{widths[2]}}", **_STYLES.get(status, {"bold": True}))
        lines = _wrapped(said, indent=len(first) + widths[2] + 2)
        click.echo(f"{first}{styled}  {lines}".rstrip())
    for offers in found.ambiguous():
        names = " or ".join(offer.qualified for offer in offers)
        what = f"{offers[0].role} {offers[0].component.name!r} is offered by {len(offers)} plugins"
        click.echo(f"{what}: write {names}")
    for clash in PluginCommands(COMMANDS).clashes():
        click.echo(clash)
    if with_details:
        for report in reports:
            _print_details(report)


def _wrapped(text: str, *, indent: int) -> str:
    """Return text broken at the width of the terminal, if there is one, with every line after the first indented."""
    if not sys.stdout.isatty():
        return text
    width = max(shutil.get_terminal_size().columns - indent, 20)
    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines)


def _offers_of(report: PluginReport) -> str:
    offers = [f"{role} {', '.join(c.name for c in components)}" for role, components in report.components.items()]
    said = "; ".join([*offers, *([report.reason] if report.reason else [])])
    return said or "offers nothing, watches runs"


def _print_details(report: PluginReport) -> None:
    click.secho(f"\n{printable(report.title)}: {report.status}", bold=True)
    lines = [f"{report.entry} = {report.module}, in {report.location}"] if report.entry else [f"in {report.location}"]
    if report.import_s:
        lines.append(f"imported in {report.import_s * 1000:.1f} ms")
    for role, components in report.components.items():
        for each in components:
            flow = {"source": f"gives {each.gives}", "store": f"takes {each.takes}"}
            kinds = flow.get(role, f"takes {each.takes}, gives {each.gives}")
            summary = f": {each.summary}" if each.summary else ""
            lines.append(f"{role} {each.name} ({each.path}; {kinds}){summary}")
    if report.reason:
        lines.append(report.reason)
    for line in (*lines, *report.traceback.splitlines()):
        click.echo(f"  {printable(line)}")
