"""Checks that keep paths under a root."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from penstock.errors import TemplateError

_MAX_NAME_BYTES = 255  # NAME_MAX of the usual file systems
_MAX_PATH_BYTES = 4096  # PATH_MAX of Linux
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = re.compile(r"[A-Za-z0-9_=+,@-][A-Za-z0-9_=+,@ .-]*(?:/[A-Za-z0-9_=+,@-][A-Za-z0-9_=+,@ .-]*)*")
_FOREIGN = re.compile(r"[\\:]") if os.name == "nt" else None  # separators and drives of Windows


def check_text(name: str, template: str) -> None:
    """Refuse a name that is empty, has control characters (NUL, newline), or is not valid text, with TemplateError."""
    if not name:
        raise TemplateError(f"template {template!r}: yields an empty name")
    control = _CONTROL.search(name)
    if control:
        raise TemplateError(
            f"template {template!r}: {_short(name)} has the control character {control[0]!r}; names must be plain text"
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise TemplateError(f"template {template!r}: {_short(name)} is not valid text: {error.reason}") from None


def fence(name: str, root: Path, template: str) -> Path:
    """Return the path of `name` under `root`, or raise TemplateError if it would leave it or cannot be a path."""
    if len(name) <= _MAX_PATH_BYTES:  # longer ones are not parsed: they may be as long as a record
        check_text(name, template)
    if len(name) > _MAX_PATH_BYTES or len(name.encode()) > _MAX_PATH_BYTES:
        raise TemplateError(f"template {template!r}: {_short(name)} is longer than {_MAX_PATH_BYTES} bytes")
    parts = name.split("/")
    for part in parts:
        if part in ("", ".", "..") or (_FOREIGN is not None and _FOREIGN.search(part)):
            what = "an empty part, or is absolute" if not part else f"the part {part!r}"
            raise TemplateError(
                f"template {template!r}: {_short(name)} has {what}; it must lie under {str(root)!r} "
                "(the filter slug turns any value into a plain name)"
            )
        if len(part.encode()) > _MAX_NAME_BYTES:
            raise TemplateError(
                f"template {template!r}: the name {_short(part)} has {len(part.encode())} bytes; "
                f"at most {_MAX_NAME_BYTES} are allowed"
            )
    _check_links(parts, root, template)
    return root.joinpath(*parts)


def is_plain(name: str) -> bool:
    """Return whether a name certainly has nothing that `fence` refuses, except for symlinks; most names have not."""
    return len(name) <= _MAX_NAME_BYTES and _FOREIGN is None and _PLAIN.fullmatch(name) is not None


def leads_through_links(name: str, above: str) -> bool:
    """Return whether a part of a plain name below `above`, which ends with "/", is a symlink, wherever it leads."""
    here = above
    for part in name.split("/"):
        here += part
        try:
            mode = os.lstat(here).st_mode
        except OSError:  # as in `_check_links`
            return False
        if stat.S_ISLNK(mode):
            return True
        here += "/"
    return False


def _check_links(parts: list[str], root: Path, template: str) -> None:
    here = os.fspath(root)
    for part in parts:
        here = os.path.join(here, part)
        try:
            mode = os.lstat(here).st_mode
        except OSError:  # missing, so not a link; writing reports any other error
            return
        if stat.S_ISLNK(mode) and not _is_under(here, root):
            raise TemplateError(
                f"template {template!r}: {here!r} is a symlink to {os.path.realpath(here)!r}, "
                f"which lies outside of {str(root)!r}"
            )


def _is_under(path: str, root: Path) -> bool:
    top = os.path.realpath(root)
    return os.path.commonpath([top, os.path.realpath(path)]) == top


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:40]}…{name[-20:]}")
