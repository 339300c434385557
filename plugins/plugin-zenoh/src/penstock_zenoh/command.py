"""`penstock scout` and `penstock doctor zenoh`: what is on the network, and what loses records there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import click

Command = Callable[..., Any]


def _network(command: Command) -> Command:
    """Add the options that say where to look."""
    for option in (
        click.option(
            "--config", metavar="FILE", type=click.File(), help="A zenoh configuration in JSON5, merged last."
        ),
        click.option("--listen", multiple=True, metavar="ENDPOINT", help="Listen here, for those who connect."),
        click.option("--connect", multiple=True, metavar="ENDPOINT", help="Connect there, as tcp/camera.lab:7460."),
        click.option("--seconds", type=click.FloatRange(0.1, 86_400), default=2.0, show_default=True),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs."),
    ):
        command = option(command)
    return command


@click.command(short_help="List HEROs, their events and rates, zenoh nodes and keys.")
@_network
@click.option("--realm", default="*", show_default=True, help="Realm of the HEROs.")
def scout(realm: str, as_json: bool, seconds: float, **where: Any) -> None:
    """Look at a zenoh network for some seconds: HEROs with their events and rates, penstock's ends, nodes and keys.

    Nothing is changed, and nothing that is found is called or dialled. Without --connect and --listen, and with the
    environment variable HEROS_ZENOH_CONFIG, its configuration is used; else the meeting point of this machine.
    """
    from penstock_zenoh.scouting import look, table  # here: it needs what the help does not

    found = look(_open(**where), seconds=seconds, realm=realm)
    click.echo(json.dumps(found, indent=2) if as_json else table(found))


@click.group(short_help="See what should be changed, with lines to paste.")
def doctor() -> None:
    """Look for what loses records, and print what to change."""


@doctor.command()
@_network
@click.option("--realm", default="heros", show_default=True, help="Realm of the HEROs.")
@click.option("--sequence-key", default="frame", show_default=True, help="Metadata key that counts events.")
def zenoh(realm: str, sequence_key: str, as_json: bool, seconds: float, **where: Any) -> None:
    """Watch the events of all HEROs for some seconds, count the gaps, and print what senders and receivers set."""
    from penstock_zenoh.doctoring import advice, watch

    seen = watch(_open(**where), seconds=seconds, realm=realm, sequence_key=sequence_key)
    click.echo(json.dumps(seen, indent=2) if as_json else advice(seen))
    if any(event["lost"] for event in seen["events"]):
        raise SystemExit(1)


def _open(connect: Sequence[str], listen: Sequence[str], config: Any) -> Any:
    """Open a session. Raises ConnectionError."""
    import os

    from penstock.errors import SourceError
    from penstock_zenoh.session import Network

    whole = None if connect or listen or config else os.environ.get("HEROS_ZENOH_CONFIG") or None
    network = Network(
        connect=tuple(connect) or None,
        listen=tuple(listen) or None,
        config=config.read() if config else None,
        whole=whole,
        timeout_s=5.0,
    )
    try:
        return network.open()
    except ConnectionError as error:
        raise SourceError(str(error)) from error
