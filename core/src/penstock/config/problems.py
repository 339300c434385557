"""The problems found by cattrs, as lines that begin with the path of the field."""

from __future__ import annotations

from typing import Any

import attrs
import cattrs
from cattrs.errors import ForbiddenExtraKeysError

from penstock.config.annotations import type_hints
from penstock.short_text import sentence_of
from penstock.suggestions import nearest


def problems_of(error: Exception, path: str) -> list[str]:
    """Return one line for each problem, "$.camera.rate: expected int, got str 'fast'"."""
    return [_line(text) for text in cattrs.transform_error(error, path=path, format_exception=_describe)]


def _line(text: str) -> str:
    problem, _, where = text.rpartition(" @ ")
    return f"{where}: {problem}" if problem else text


def _describe(error: BaseException, kind: type | None) -> str:
    if isinstance(error, ForbiddenExtraKeysError):
        return "; ".join(_unknown(key, error.cl) for key in sorted(error.extra_fields))
    if isinstance(error, KeyError):
        return "is missing"
    return sentence_of(error) or type(error).__name__


def _unknown(key: str, cls: Any) -> str:
    known = [field.name for field in attrs.fields(cls) if field.init] if attrs.has(cls) else list(type_hints(cls))
    close = nearest(str(key), known, count=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known) or 'none'}"
    return f"unknown key {key!r}; {hint}"
