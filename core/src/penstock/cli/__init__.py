"""The command line: `penstock COMMAND`. Each command is a module that is imported when it is used."""

from penstock.cli.group import main

__all__ = ["main"]
