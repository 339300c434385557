"""The template of an archiver's file names: a template of herostools as a path below the user's root."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from penstock.errors import ConfigError
from penstock.record import Record
from penstock.short_text import short
from penstock.templates import Template
from penstock_zenoh.hero.source import holds_directory


class NameTemplate(str):
    """A jinja2 template of file names with `template.render(metadata)`."""

    __slots__ = ()

    def render(self, *metadata: Mapping[str, Any], **more: Any) -> str:
        """Return the name for these metadata. Raises TemplateError for missing ones."""
        merged: dict[str, Any] = {}
        for each in (*metadata, more):
            merged.update(each)
        return Template(str(self)).render(Record(None, metadata=merged))


def path_template(save_template: str, defaults: Mapping[str, Any], suffix: str) -> str:
    """Return the template of a store's `path`, which begins with the user's directories.

    A default value with a directory replaces its variable in the template and so becomes part of the root, which no
    event can change or leave. Raises ConfigError for such a default that contains "{{", and for an empty template.

    >>> path_template("{{ file_path }}/a-{{ frame }}.npy", {"file_path": "/data"}, ".npy")
    '/data/a-{{ frame }}.npy'
    """
    if not isinstance(save_template, str) or not save_template.strip():
        raise ConfigError(
            f"save_template={save_template!r}: must be a template of file names, as '{{{{ frame }}}}{suffix}'"
        )
    if not isinstance(defaults, Mapping):
        raise ConfigError(f"default_metadata={defaults!r:.80}: must be a dict of metadata")
    text = str(save_template)
    for name, value in defaults.items():
        if not holds_directory(name, value) or not isinstance(name, str):
            continue
        if "{" in str(value):
            raise ConfigError(f"default_metadata: {name}={short(value)}: must be a directory without '{{'")
        directory = str(value).replace("\\", "\\\\")  # `re` interprets backslashes in a replacement
        text = re.sub(rf"\{{\{{\s*{re.escape(name)}\s*\}}\}}", directory, text)
    # as in herostools: numpy appends its suffix to any other, and JSON keeps the one that the user gives
    is_named = text.endswith(suffix) or (suffix == ".json" and literal_suffix(text))
    return text if is_named else text + suffix


def literal_suffix(text: str) -> str:
    """Return the suffix that all names of a template have, or "".

    >>> literal_suffix("{{ path }}/a-{{ frame }}.txt"), literal_suffix("v1.2/{{ frame }}"), literal_suffix("a")
    ('.txt', '', '')
    """
    _, dot, suffix = text.rpartition("}}")[2].rpartition("/")[2].rpartition(".")
    return f".{suffix}" if dot and suffix else ""
