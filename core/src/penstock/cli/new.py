"""`penstock new`: create a plugin whose tests pass from the start."""

from __future__ import annotations

import importlib.resources
import re
import shutil
from pathlib import Path

import attrs
import click

from penstock.component import ROLES
from penstock.errors import ConfigError
from penstock.hookspecs import ENTRY_POINT_GROUP

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_LONGEST = 50

FILES = {
    ".github/workflows/tests.yml": "tests.yml",
    ".gitignore": "gitignore",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "src/{package}/__init__.py": "__init__.py",
    "src/{package}/hooks.py": "hooks.py",
    "src/{package}/py.typed": "",
    "src/{package}/{role}.py": "{role}.py",
    "tests/test_plugin.py": "test_plugin.py",
    "tests/test_readme.py": "test_readme.py",
    "tests/test_{role}_contract.py": "test_{role}_contract.py",
}
"""The files of a package, each with its template in `template/`; "" means an empty file."""

_SUMMARIES = {
    "source": "Each line of a file, as a record",
    "decoder": "The lines of a stream of bytes that was split anywhere",
    "processor": "Numbers and arrays, times a factor",
    "store": "Whole records, each as one file",
}
_TAKES = {"decoder": "bytes"}
_GIVES = {"source": "bytes", "decoder": "bytes"}


def _short(name: str) -> str:
    return name.removeprefix("penstock-")


@attrs.frozen(kw_only=True)
class NewPlugin:
    """The names of a plugin to create.

    Attributes:
        role: The role of its component: "source", "decoder", "processor" or "store".
        name: The name in `ps.store("acme")`; the distribution is penstock-acme.
    """

    role: str = attrs.field(validator=attrs.validators.in_(ROLES))
    name: str = attrs.field(converter=_short)

    @property
    def distribution(self) -> str:
        """Return the name of the distribution, "penstock-acme"."""
        return f"penstock-{self.name}"

    @property
    def package(self) -> str:
        """Return the name of the package, "penstock_acme"."""
        return self.distribution.replace("-", "_")

    @property
    def cls(self) -> str:
        """Return the name of the class, "AcmeStore"."""
        words = self.name.removesuffix(f"-{self.role}").split("-")
        return "".join(word.capitalize() for word in [*words, self.role])

    def problems(self) -> list[str]:
        """Return the problems with the name, each as a sentence with its remedy."""
        if not _NAME.match(self.name) or len(self.name) > _LONGEST:
            return [
                f"name {self.name!r}: use at most {_LONGEST} lower-case letters, digits and single dashes, a letter "
                "first, as in 'acme' or 'acme-raw'"
            ]
        if self.distribution in _own_distributions():
            return [f"name {self.name!r}: {self.distribution} is one of penstock's own plugins; choose another name"]
        if self.name in _builtin_names(self.role):
            return [f"name {self.name!r}: penstock itself offers a {self.role} of this name; choose another one"]
        return []

    def render(self) -> dict[str, str]:
        """Return the text of each file, by its path below the package's directory."""
        import jinja2  # imported here: the other commands do not need it

        environment = jinja2.Environment(
            loader=jinja2.FunctionLoader(_template),
            undefined=jinja2.StrictUndefined,
            keep_trailing_newline=True,
            trim_blocks=True,
            variable_start_string="<<",
            variable_end_string=">>",
            block_start_string="<%",
            block_end_string="%>",
            comment_start_string="<#",
            comment_end_string="#>",
            autoescape=False,
        )
        words = {
            "cls": self.cls,
            "contract": f"{self.role.capitalize()}Contract",
            "distribution": self.distribution,
            "gives": _GIVES.get(self.role, ""),
            "group": ENTRY_POINT_GROUP,
            "name": self.name,
            "package": self.package,
            "role": self.role,
            "summary": _SUMMARIES[self.role],
            "takes": _TAKES.get(self.role, ""),
        }
        return {
            path.format(**words): environment.get_template(name.format(**words)).render(words) if name else ""
            for path, name in FILES.items()
        }

    def write(self, out: Path) -> Path:
        """Write the package into a new directory below `out`, and return that directory.

        Raises:
            ConfigError: the name cannot be used, or the directory exists; nothing was written.
            OSError: a file cannot be written; the others were removed.
        """
        problems = self.problems()
        if problems:
            raise ConfigError(problems[0])
        files = self.render()
        directory = out / self.distribution
        out.mkdir(parents=True, exist_ok=True)
        try:
            directory.mkdir()
        except FileExistsError:
            raise ConfigError(
                f"{directory} exists already and is left as it is; choose another name, or another directory with --out"
            ) from None
        try:
            for path, text in files.items():
                (directory / path).parent.mkdir(parents=True, exist_ok=True)
                (directory / path).write_text(text, encoding="utf-8", newline="\n")
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return directory


@click.command(short_help="Create a plugin.")
@click.argument("role", type=click.Choice(ROLES))
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(), help="Parent directory; the current one by default."
)
def new(role: str, name: str, out: Path) -> None:
    """Create the package penstock-NAME, which offers a source, decoder, processor or store called NAME.

    It is complete: pyproject.toml, sources, README, CI, and tests that pass from the start. Nothing is overwritten.
    """
    plugin = NewPlugin(role=role, name=name)
    directory = plugin.write(out)
    click.echo(f"made {directory}: replace the code in src/{plugin.package}/{role}.py with yours; to begin:")
    click.echo(f"  cd {directory}")
    click.echo("  python3 -m venv .venv")
    click.echo('  .venv/bin/pip install -e ".[test]"')
    click.echo("  .venv/bin/python -m pytest")


def _template(name: str) -> str:
    return importlib.resources.files("penstock.cli").joinpath("template", f"{name}.jinja").read_text("utf-8")


def _own_distributions() -> set[str]:
    from penstock.plugins.explain import INSTALLABLE

    return set(INSTALLABLE.values())


def _builtin_names(role: str) -> set[str]:
    from penstock.builtin import hooks

    offer = getattr(hooks, f"penstock_{role}s", None)
    return {component.name for component in offer()} if offer else set()
