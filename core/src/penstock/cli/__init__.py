"""The command line: `penstock COMMAND`. Each command is a module, imported on use."""

from penstock.cli.group import main

__all__ = ["main"]
