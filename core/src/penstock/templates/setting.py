"""A validator for settings that are templates, so that errors are found before anything opens."""

from __future__ import annotations

from typing import Any

import attrs

from penstock.errors import ConfigError, TemplateError


def is_template(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Check a setting that is a template; its root is the component's setting `root`, if there is one.

    Raises:
        ConfigError: it cannot be compiled; the message names the setting and the problem.
    """
    from penstock.templates.template import Template

    try:
        Template(value, root=getattr(instance, "root", None))
    except TemplateError as error:
        raise ConfigError(f"{field.name}: {error}") from error
