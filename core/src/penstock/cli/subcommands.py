"""SubcommandGroup: a group of commands that names the nearest one for a misspelled name. For commands of plugins."""

from __future__ import annotations

import click

from penstock.suggestions import nearest


class SubcommandGroup(click.Group):
    """Fail with the nearest command, or all of them, where click would only say that there is none."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to run; a usage error names close ones."""
        if args and not args[0].startswith("-"):
            self.require(ctx, args[0])
        return super().resolve_command(ctx, args)

    def require(self, ctx: click.Context, name: str) -> None:
        """Fail with advice unless there is a command of this name."""
        known = self.list_commands(ctx)
        if name not in known:
            ctx.fail(f"there is no command {name!r}; {self.advice(name, known)}")

    def advice(self, name: str, known: list[str]) -> str:
        """Return what to do about a command that does not exist."""
        close = nearest(name, known)
        return f"did you mean {close[0]!r}?" if close else f"commands are {', '.join(known)}."
