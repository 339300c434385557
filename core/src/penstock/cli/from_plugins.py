"""Commands of plugins: found by their entry points, and imported when one is used or described."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Container, Iterator, Mapping

import click

from penstock.errors import AmbiguousComponentError, ComponentLoadError
from penstock.hookspecs import PROJECT
from penstock.plugins.report import normalised

GROUP = f"{PROJECT}.commands"
"""The entry-point group: the entry's name is the command's, its value leads to a `click.Command`."""

INSTALLABLE = {
    "demo": "penstock-demo",
    "doctor": "penstock-zenoh",
    "lmdb": "penstock-lmdb",
    "recover": "penstock-npy",
    "scout": "penstock-zenoh",
    "shm": "penstock-shm",
}
"""The distribution for each well-known command."""


class PluginCommands:
    """The commands of installed plugins, without those that the user excludes.

    Args:
        taken: Names of penstock's own commands, which no plugin may replace.
    """

    def __init__(self, taken: Container[str]) -> None:
        """List the installed entry points; nothing is imported."""
        self._taken = taken
        self._entries: dict[str, dict[str, importlib.metadata.EntryPoint]] = {}
        without = {normalised(name) for name in os.environ.get("PENSTOCK_WITHOUT", "").split(",") if name.strip()}
        for entry in importlib.metadata.entry_points(group=GROUP):
            home = _home(entry)
            if home not in without and "*" not in without:
                self._entries.setdefault(entry.name, {}).setdefault(home, entry)  # the first on the path counts

    def names(self) -> list[str]:
        """Return the names, sorted, without those that are penstock's own."""
        return sorted(name for name in self._entries if name not in self._taken)

    def clashes(self) -> Iterator[str]:
        """Yield a sentence for each name that cannot be used because penstock or another plugin has it, too."""
        for name, homes in sorted(self._entries.items()):
            if name in self._taken:
                yield f"command {name!r} of {' and '.join(sorted(homes))} is not used: penstock has one of this name"
            elif len(homes) > 1:
                yield _ambiguous(name, homes)

    def load(self, name: str) -> click.Command | None:
        """Import a command; None if there is none of this name.

        One that cannot be loaded becomes a command that reports why, so that it does not affect others.
        """
        homes = self._entries.get(name)
        if not homes or name in self._taken:
            return None
        if len(homes) > 1:
            return _failing(name, "of several plugins", AmbiguousComponentError(_ambiguous(name, homes)))
        ((home, entry),) = homes.items()
        title = f"command {name!r} of {home} {entry.dist.version if entry.dist else ''}".rstrip()
        try:
            command = entry.load()
        except (Exception, SystemExit) as error:  # a plugin may raise anything on import
            said = " ".join(str(error).split())
            problem = f"{title} cannot be loaded: {entry.value!r} raised {type(error).__name__}: {said}"
            failure = ComponentLoadError(f"{problem}; `pip install --force-reinstall {home}`, or write to its authors")
            failure.__cause__ = error
            return _failing(name, "cannot be loaded", failure)
        if not isinstance(command, click.Command):
            problem = f"{title} is not a command: {entry.value!r} is a {type(command).__name__}, not a click.Command"
            return _failing(name, "cannot be loaded", ComponentLoadError(f"{problem}; write to its authors"))
        return command


def _home(entry: importlib.metadata.EntryPoint) -> str:
    """Return the distribution of an entry; its metadata may be damaged."""
    try:
        return normalised(entry.dist.name) if entry.dist else "?"
    except (KeyError, TypeError, AttributeError, OSError, UnicodeDecodeError):
        return "?"


def _ambiguous(name: str, homes: Mapping[str, object]) -> str:
    found = sorted(homes)
    return (
        f"command {name!r} is brought by {' and '.join(found)}; uninstall one, "
        f"or leave it out: PENSTOCK_WITHOUT={found[-1]}"
    )


def _failing(name: str, short: str, error: Exception) -> click.Command:
    def fail(arguments: tuple[str, ...]) -> None:
        raise error

    arguments = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
    settings = {"ignore_unknown_options": True, "help_option_names": []}  # --help also reports the problem
    return click.Command(name, callback=fail, params=[arguments], short_help=f"({short})", context_settings=settings)
