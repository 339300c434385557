"""Template: a text with placeholders filled from each record; a path never leaves its root."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath
from typing import Any

from penstock.errors import TemplateError
from penstock.record import Record
from penstock.short_text import short
from penstock.suggestions import nearest
from penstock.templates.fence import check_text, fence, is_plain, leads_through_links

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME_ONLY = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_TAG = re.compile(r"\{[{%#]")
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_EXPRESSION = r"([A-Za-z_]\w*)((?:\.\w+|\[\w+\])*)"
_BARE = re.compile(rf"\{{{_EXPRESSION}((?:![rsa])?(?::[^{{}}]*)?)\}}")
_DOUBLE = re.compile(rf"\{{\{{\s*{_EXPRESSION}\s*(:[^{{}}]*?)\s*\}}\}}")
_OF_RECORD = frozenset(("channel", "source_name", "seq", "time_ns", "time", "coords", "metadata"))


class Template:
    """Make names from records: `Template("archive/{{ channel }}/{{ '%06d' % seq }}.npy")`.

    The text is a jinja2 template, run in jinja2's sandbox; a name that the record lacks is an error. It can use
    `channel`, `seq`, `time_ns`, `time` (an aware datetime in UTC), `coords`, `metadata`, `source_name` (that of
    the metadata, else the channel), each key of the metadata, and each of `defaults` that the metadata lacks; and,
    besides those of jinja2, the filters `slug` and `strftime` (`time|strftime("%Y-%m-%d")`). Values of a record are
    inserted literally, and never read as a template.

    Args:
        text: The template. It is trusted; the records are not.
        root: The directory that contains all paths. Without it, the directories at the start of the text that
            need no record are the root: "archive" above, "." if there are none.
        defaults: Values for keys that the metadata of a record lacks. They are trusted: one that holds a directory (it
            has a "/", is a Path, or is named "root") cannot be replaced by the metadata, and may be part of the root.

    Attributes:
        text: The template as given.
        root: The directory that contains all paths.
        variables: The names that the template uses; empty if every record would get the same name.

    Raises:
        TemplateError: the text is not a template.
    """

    __slots__ = (
        "_above",
        "_defaults",
        "_path",
        "_protected",
        "_quick",
        "_quick_path",
        "_whole",
        "root",
        "text",
        "variables",
    )

    def __init__(self, text: str, *, root: Path | None = None, defaults: Mapping[str, Any] | None = None) -> None:
        from penstock.templates.compiled import compile_template

        if not isinstance(text, str) or not text:
            raise TemplateError(f"template {short(text)}: must be a string, as in '{{{{ channel }}}}/{{{{ seq }}}}'")
        _check_braces(text)
        self.text = text
        self._defaults = dict(defaults or {})
        self._protected = {name: value for name, value in self._defaults.items() if _holds_directory(name, value)}
        if root is None:
            start, rest = _split(text, self._protected)
            self.root = Path(start).expanduser()
        else:
            self.root, rest = Path(root), text
            if PurePath(text).is_absolute():
                raise TemplateError(f"template {text!r}: is absolute, but has the root {str(root)!r}; remove one")
        if ".." in rest.split("/"):
            raise TemplateError(f"template {text!r}: '..' after a part filled from a record would leave it")
        self._whole = compile_template(text, text)
        self._path = self._whole if rest == text else compile_template(rest, text)
        self.variables = self._whole.variables
        self._above = os.path.join(self.root, "") if self.root.parts else ""
        is_open = self._protected.keys().isdisjoint(self.variables)
        self._quick = self._whole.quick if is_open else _never
        self._quick_path = self._path.quick if is_open else _never

    def render(self, record: Record) -> str:
        """Return the text for this record: a key, a topic.

        Raises:
            TemplateError: the record lacks a name that the template uses, or the text would be empty or have
                control characters.
        """
        name = self._quick(record)
        if not name.isprintable() or not name:  # the general path names the problem, or renders it
            name = self._fill(self._whole, record)
            check_text(name, self.text)
        return name

    def path(self, record: Record) -> Path:
        """Return the path for this record, under `root`. Nothing is created on disk.

        Raises:
            TemplateError: as `render`; or the path would leave the root (`..`, an absolute part, a symlink), or has
                a name that is empty or longer than 255 bytes.
        """
        return fence(self._fill(self._path, record), self.root, self.text)

    def path_text(self, record: Record, *, is_new: bool = False) -> str:
        """Return `path` as text, which takes a fifth of the time for names of plain characters. Raises as `path`.

        Args:
            record: The record.
            is_new: The caller makes the file and refuses an existing one, also a symlink: it calls `path` for the
                error. Then only the directories are searched for symlinks.
        """
        name = self._quick_path(record)
        if name and is_plain(name):
            checked = name.rpartition("/")[0] if is_new else name
            if not checked or not leads_through_links(checked, self._above):
                return self._above + name
        return os.fspath(self.path(record))

    def __repr__(self) -> str:
        return f"Template({self.text!r}, root={str(self.root)!r})"

    def _fill(self, compiled: Any, record: Record) -> str:
        context: dict[str, Any] = {}
        for name in compiled.variables:
            try:
                context[name] = self._value(name, record)
            except KeyError:
                pass  # an expression may not need it: `{{ camera or 'none' }}`, `camera|default('x')`
            except (OverflowError, TypeError) as error:
                raise TemplateError(f"template {self.text!r}: {name} of record {_named(record)}: {error}") from error
        try:
            return str(compiled.render(context))
        except TemplateError:
            raise
        except Exception as error:  # an expression of the template may raise anything for these values
            self._explain(error, context, record)
            raise TemplateError(f"template {self.text!r}: record {_named(record)}: {error}") from error

    def _value(self, name: str, record: Record) -> Any:
        if name in _OF_RECORD:
            if name == "time":
                return _EPOCH + timedelta(microseconds=record.time_ns // 1000)
            if name == "source_name":
                return record.metadata.get(name, self._defaults.get(name, record.channel))
            return getattr(record, name)
        if name in self._protected or name not in record.metadata:
            return self._defaults[name]
        return record.metadata[name]

    def _explain(self, error: Exception, context: dict[str, Any], record: Record) -> None:
        missing = sorted(name for name in self.variables if name not in context and f"'{name}'" in str(error))
        if not missing:
            return
        known = sorted({*_OF_RECORD, *self._defaults, *(str(key) for key in record.metadata)})
        close = nearest(missing[0], known, count=3)
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        raise TemplateError(
            f"template {self.text!r}: record {_named(record)} has no {missing[0]!r}; it has "
            f"{', '.join(known[:40])}{meant}"
        ) from error


def _never(record: Record) -> str:
    return ""


def _check_braces(text: str) -> None:
    """Raise TemplateError for `{seq:04d}`, a placeholder of `str.format`, which jinja2 would not fill in."""
    found = _DOUBLE.search(text) or _BARE.search(_JINJA.sub("", text))
    if found is None:
        return
    name, form = found[1] + re.sub(r"\[([A-Za-z_]\w*)\]", r"['\1']", found[2]), found[3]
    if not (form or found[1] in _OF_RECORD or _TAG.search(text) is None):
        return
    digits = re.fullmatch(r":0?(\d*)d", form)
    if digits and digits[1]:
        meant = f"'%0{digits[1]}d' % {name}"
    elif form.startswith(":%"):
        meant = f"{name}|strftime({form[1:]!r})"
    elif form.startswith(":") and not digits:
        meant = f"{f'{{{form}}}'!r}.format({name})"
    else:
        meant = name
    raise TemplateError(
        f"template {text!r}: {found[0]} is a placeholder of Python's str.format, but this is a jinja2 template: "
        f"write {{{{ {meant} }}}}"
    )


def _named(record: Record) -> str:
    return f"{record.seq} of channel {record.channel[:80]!r}"


def _holds_directory(name: str, value: Any) -> bool:
    return name == "root" or isinstance(value, PurePath) or (isinstance(value, str) and "/" in value)


def _split(text: str, protected: Mapping[str, Any]) -> tuple[str, str]:
    """Return the directories at the start that need no record, and the template of the rest."""
    start, position = "", 0
    while True:
        tag = _TAG.search(text, position)
        if tag is None:
            start, position = start + text[position:], len(text)
            break
        start, position = start + text[position : tag.start()], tag.start()
        name = _NAME_ONLY.match(text, position)
        if name is None or name[1] not in protected:
            break
        start, position = start + str(protected[name[1]]), name.end()
    directory, slash, begun = start.rpartition("/")
    if "{" in begun:
        raise TemplateError(f"template {text!r}: a default with '{{' in it cannot be part of a name")
    return (directory or slash or ".", begun + text[position:])
