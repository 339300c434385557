"""How the file that is being read is to be understood."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

IGNORED: ContextVar[list[str] | None] = ContextVar("IGNORED", default=None)
"""Where keys that no class has are noted while they are ignored; None while they are errors."""

ABSENT_IS_NONE: ContextVar[bool] = ContextVar("ABSENT_IS_NONE", default=False)
"""Whether a field without a default that may be None is so where a file leaves it out, as TOML has to."""


@contextmanager
def ignoring_unknown() -> Iterator[list[str]]:
    """Ignore keys that no class has inside; yield the list in which they are noted, as "Camera.rate"."""
    noted: list[str] = []
    token = IGNORED.set(noted)
    try:
        yield noted
    finally:
        IGNORED.reset(token)


@contextmanager
def reading(suffix: str) -> Iterator[None]:
    """Read what a file with this suffix held: TOML has no null, and leaves out what is None."""
    token = ABSENT_IS_NONE.set(suffix == ".toml")
    try:
        yield
    finally:
        ABSENT_IS_NONE.reset(token)
