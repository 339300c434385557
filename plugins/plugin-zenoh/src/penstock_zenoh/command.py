"""`penstock scout` lists a network's HEROs and keys; `penstock doctor zenoh` finds the causes of lost records."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import click

from penstock.cli.subcommands import SubcommandGroup

Command = Callable[..., Any]


def _network(command: Command) -> Command:
    """Add the options that configure the session."""
    for option in (
        click.option(
            "--config", metavar="FILE", type=click.File(), help="A zenoh configuration in JSON5, merged last."
        ),
        click.option("--listen", multiple=True, metavar="ENDPOINT", help="Endpoint to listen on."),
        click.option("--connect", multiple=True, metavar="ENDPOINT", help="Endpoint, such as tcp/camera.lab:7460."),
        click.option("--seconds", type=click.FloatRange(0.1, 86_400), default=2.0, show_default=True),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs."),
    ):
        command = option(command)
    return command


@click.command(short_help="List HEROs, their events and rates, zenoh nodes and keys.")
@_network
@click.option("--realm", default="*", show_default=True, help="Realm of the HEROs.")
def scout(realm: str, as_json: bool, seconds: float, **where: Any) -> None:
    """Observe a zenoh network for some seconds: HEROs with events and rates, penstock's own ends, nodes and keys.

    The command changes nothing, calls no HERO and connects to no endpoint that it finds. Without --connect and --listen
    it uses the configuration of the environment variable HEROS_ZENOH_CONFIG, or, if that is not set, this machine's
    rendezvous.
    """
    from penstock_zenoh.scouting import look, table  # imported here, so that --help stays light

    found = look(_open(**where), seconds=seconds, realm=realm)
    click.echo(json.dumps(found, indent=2) if as_json else table(found))


@click.group(cls=SubcommandGroup, short_help="Find the causes of lost records, and settings that prevent them.")
def doctor() -> None:
    """Find the causes of lost records, and print the settings that prevent them."""


@doctor.command()
@_network
@click.option("--realm", default="heros", show_default=True, help="Realm of the HEROs.")
@click.option("--sequence-key", default="frame", show_default=True, help="Metadata key that counts events.")
def zenoh(realm: str, sequence_key: str, as_json: bool, seconds: float, **where: Any) -> None:
    """Watch the events of all HEROs for some seconds, count the gaps, and print settings for senders and receivers."""
    from penstock_zenoh.diagnosis import advice, watch

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
