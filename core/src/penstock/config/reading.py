"""Options for the file that is being read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

IGNORED: ContextVar[list[str] | None] = ContextVar("IGNORED", default=None)
"""Collects unknown keys while they are ignored; None while they are errors."""

ABSENT_IS_NONE: ContextVar[bool] = ContextVar("ABSENT_IS_NONE", default=False)
"""Whether a missing field without a default becomes None if it may, since TOML has no null."""


@contextmanager
def ignoring_unknown() -> Iterator[list[str]]:
    """Ignore unknown keys inside the block; yield the list that collects them, as "Camera.rate"."""
    noted: list[str] = []
    token = IGNORED.set(noted)
    try:
        yield noted
    finally:
        IGNORED.reset(token)


@contextmanager
def reading(suffix: str) -> Iterator[None]:
    """Read the content of a file with this suffix: TOML has no null, and omits keys whose value is None."""
    token = ABSENT_IS_NONE.set(suffix == ".toml")
    try:
        yield
    finally:
        ABSENT_IS_NONE.reset(token)
