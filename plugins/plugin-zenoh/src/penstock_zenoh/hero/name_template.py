"""The template of an archiver's file names: what herostools' users write, as a path below a root that they chose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from penstock.errors import ConfigError
from penstock.record import Record
from penstock.templates import Template
from penstock_zenoh.hero.source import holds_directory


class NameTemplate(str):
    """A jinja2 template of file names, which can be rendered by itself: `template.render(metadata)`."""

    __slots__ = ()

    def render(self, *metadata: Mapping[str, Any], **more: Any) -> str:
        """Return the name for these metadata. Raises TemplateError for what they lack."""
        merged: dict[str, Any] = {}
        for each in (*metadata, more):
            merged.update(each)
        return Template(str(self)).render(Record(None, metadata=merged))


def path_template(save_template: str, defaults: Mapping[str, Any], suffix: str) -> str:
    """Return the template of a store's `path`, whose directories at the start are the user's.

    A default that names a directory stands in the text for its name, so that it is part of the root: no event can
    change it, or lead out of it. Raises ConfigError for a default with "{{" in it.

    >>> path_template("{{ file_path }}/a-{{ frame }}.npy", {"file_path": "/data"}, ".npy")
    '/data/a-{{ frame }}.npy'
    """
    text = str(save_template)
    for name, value in defaults.items():
        if not holds_directory(name, value) or not isinstance(name, str):
            continue
        if "{" in str(value):
            raise ConfigError(f"default_metadata: {name}={value!r}: must be a directory without '{{'")
        directory = str(value).replace("\\", "\\\\")  # what `re` puts in as it is
        text = re.sub(rf"\{{\{{\s*{re.escape(name)}\s*\}}\}}", directory, text)
    return text if text.endswith(suffix) else text + suffix
