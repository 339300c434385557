"""The group of commands, and `main`, which runs one and turns its errors into one sentence."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from penstock.cli.console import say_error
from penstock.cli.subcommands import SubcommandGroup
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from penstock.cli.from_plugins import PluginCommands

COMMANDS = {
    "graph": "penstock.cli.run:graph",
    "new": "penstock.cli.new:new",
    "plugins": "penstock.cli.plugins:plugins",
    "read": "penstock.cli.read:read",
    "replay": "penstock.cli.replay:replay",
    "run": "penstock.cli.run:run",
    "validate": "penstock.cli.run:validate",
}
"""The module of each of penstock's own commands; a command whose module is missing is not listed."""

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""The exit statuses: 1 for an error, 2 for a usage error, 130 (128 + SIGINT) for Ctrl-C."""


class LazyGroup(SubcommandGroup):
    """A group that imports a command on use, or for the help of all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the available commands: penstock's own, then those of plugins."""
        return [*filter(_is_there, COMMANDS), *self._plugin_commands().names()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command and return it; None if there is none of this name."""
        if not _is_there(cmd_name):
            return self._plugin_commands().load(cmd_name)
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{COMMANDS[cmd_name]} is not a command"
        return command

    def require(self, ctx: click.Context, name: str) -> None:
        """Fail with advice unless there is a command of this name."""
        if not _is_there(name):
            super().require(ctx, name)

    def advice(self, name: str, known: list[str]) -> str:
        """Return what to do about a command that does not exist: which plugin brings it, or its nearest."""
        from penstock.cli.from_plugins import INSTALLABLE  # here, as in _plugin_commands

        return f"`pip install {INSTALLABLE[name]}` brings it" if name in INSTALLABLE else super().advice(name, known)

    def _plugin_commands(self) -> PluginCommands:
        from penstock.cli.from_plugins import PluginCommands  # imported here: penstock's own commands need no search

        return PluginCommands(COMMANDS)


def _is_there(name: str) -> bool:
    """Return whether it is one of penstock's own commands."""
    return name in COMMANDS and importlib.util.find_spec(COMMANDS[name].partition(":")[0]) is not None


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import importlib.metadata  # imported here: only this needs it

        try:
            version = importlib.metadata.version("penstock")
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
        click.echo(f"penstock {version}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.option("--debug", is_flag=True, help="Also show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Carry data from instruments and cameras through decoders and processors into stores."""
    ctx.obj["debug"] = debug


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0, 1 for an error, 2 for wrong usage, 130 if interrupted.

    An error of penstock or of the operating system is one sentence on stderr; with `--debug` its traceback too.
    Any other exception is a bug in penstock or a plugin, and is shown in full.
    """
    settings = {"debug": False}
    try:
        status = cli.main(args, prog_name="penstock", standalone_mode=False, obj=settings)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except click.Abort as abort:  # raised by click for Ctrl-C and every EOFError
        cause = abort.__cause__
        if isinstance(cause, PenstockError):
            say_error(cause, debug=settings["debug"])
            status = FAILED
        else:
            say_error(f"interrupted{_notes(cause)}")
            status = INTERRUPTED
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED
    except (PenstockError, OSError) as error:
        say_error(error, debug=settings["debug"])
        status = FAILED
    sys.exit(status if isinstance(status, int) else OK)


def _notes(error: BaseException | None) -> str:
    return "".join(f" {note}" for note in getattr(error, "__notes__", ()))
