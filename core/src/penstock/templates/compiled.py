"""Templates compiled once: by jinja2, or as plain pieces if they use only names and `'%06d' % name`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from penstock.errors import TemplateError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = frozenset(("channel", "seq", "time_ns"))
_COMPUTED = frozenset(("source_name", "time", "coords", "metadata"))
_WHOLE_NUMBERS = frozenset(("seq", "time_ns"))
_PLAIN = frozenset((int, str, float, bool))
"""Types of metadata that `%` formats as jinja2 does; a tuple or a dict would mean something else to it."""
_NO_SLUG = re.compile(r"[^a-z0-9._]+")


class Compiled:
    """A compiled template: the names it uses, and `render(values) -> str`.

    `quick(record) -> str` does the same from the record itself, five times as fast. It returns "" for a template that
    needs more than a record's channel, number, time and keys of its metadata, and for a record with unusual values.
    """

    __slots__ = ("quick", "render", "variables")

    def __init__(
        self,
        variables: frozenset[str],
        render: Callable[[Mapping[str, Any]], str],
        quick: Callable[[Any], str] = lambda record: "",
    ) -> None:
        self.variables = variables
        self.render = render
        self.quick = quick


def compile_template(source: str, text: str) -> Compiled:
    """Return the template of `source`, which is `text` or the end of it.

    Raises:
        TemplateError: it is not a template, or uses an unknown filter.
    """
    try:
        tree = _ENVIRONMENT.parse(source)
        variables = frozenset(jinja2.meta.find_undeclared_variables(tree))
        template = _ENVIRONMENT.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"template {text!r}: {error.message} (line {error.lineno})") from error
    except Exception as error:  # jinja2 evaluates constants, and passes their errors on
        raise TemplateError(f"template {text!r}: {error}") from error
    pieces = _pieces(tree)
    if pieces is None:
        return Compiled(variables, template.render)

    def render(values: Mapping[str, Any]) -> str:
        if not variables <= values.keys():
            return template.render(values)  # jinja2 reports the missing name
        return "".join([text if name is None else text % (values[name],) for text, name in pieces])

    is_exact = all(name is None or text == "%s" or name in _WHOLE_NUMBERS for text, name in pieces)
    return Compiled(variables, render if is_exact else template.render, _quick(pieces))


def _quick(pieces: list[tuple[str, str | None]]) -> Callable[[Any], str]:
    """Return a function that fills the pieces from a record, or returns ""."""
    names = [name for _, name in pieces if name is not None]
    if not names or _COMPUTED.intersection(names):
        return lambda record: ""
    if not all(name is None or _takes_one(text) for text, name in pieces):
        return lambda record: ""
    form = "".join(text.replace("%", "%%") if name is None else text for text, name in pieces)
    if not _FIELDS.issuperset(names):
        return _from_metadata(form, names)
    fields: Callable[[Any], Any] = attrgetter(*names)
    values = fields if names[1:] else lambda record: (fields(record),)  # attrgetter returns a tuple for several names

    def fill(record: Any) -> str:
        try:
            return form % values(record)
        except Exception:  # a field of a wrong type may raise anything
            return ""

    return fill


def _from_metadata(form: str, names: list[str]) -> Callable[[Any], str]:
    """Return a function that fills a format with fields of a record and values of its metadata, or returns ""."""

    def fill(record: Any) -> str:
        metadata, values = record.metadata, []
        try:
            for name in names:
                if name in _FIELDS:
                    values.append(getattr(record, name))
                    continue
                value = metadata[name]
                if type(value) not in _PLAIN:
                    return ""
                values.append(value)
            return form % tuple(values)
        except Exception:  # as above; or the metadata lack a name
            return ""

    return fill


def _takes_one(form: str) -> bool:
    """Return whether a format has one positional number."""
    try:
        return bool(form % (0,)) and form % (0,) != form % (1,)
    except (TypeError, ValueError):
        return False


def _pieces(tree: nodes.Template) -> list[tuple[str, str | None]] | None:
    """Return (text, None) and (format, name) in order; None if the template has other parts."""
    pieces: list[tuple[str, str | None]] = []
    for output in tree.body:
        for node in output.nodes if isinstance(output, nodes.Output) else [output]:
            match node:
                case nodes.TemplateData(data=text):
                    pieces.append((text, None))
                case nodes.Name(name=name):
                    pieces.append(("%s", name))
                case nodes.Mod(left=nodes.Const(value=str() as text), right=nodes.Name(name=name)):
                    pieces.append((text, name))
                case _:
                    return None
    return pieces


def _slug(value: Any) -> str:
    """Return a name of lower-case ASCII letters, digits, '.', '_' and '-' only: 'Caméra 1' becomes 'camera-1'."""
    plain = unicodedata.normalize("NFKD", str(value)).encode("ascii", "ignore").decode().lower()
    name = _NO_SLUG.sub("-", plain).strip("-.")
    if not name:
        raise ValueError(f"slug: no valid character in {str(value)[:80]!r}")
    return name


def _strftime(value: Any, form: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    """Return a datetime, or nanoseconds since 1970, in this form."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = _EPOCH + timedelta(microseconds=value // 1000)
    if not hasattr(value, "strftime"):
        raise ValueError(f"strftime: {value!r} is not a time; use time or time_ns")
    return str(value.strftime(form))


def _environment() -> ImmutableSandboxedEnvironment:
    # The result is a name, not HTML: escaping would change it.
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    environment.globals.clear()
    environment.filters["slug"] = _slug
    environment.filters["strftime"] = _strftime
    return environment


_ENVIRONMENT = _environment()
