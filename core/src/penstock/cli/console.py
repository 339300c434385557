"""Error output of commands: each error as one sentence on stderr."""

from __future__ import annotations

import sys

from penstock.errors import PenstockError


def say_error(error: BaseException | str, *, debug: bool = False) -> None:
    """Print "penstock: error: …" on stderr, in one line; with `debug`, the traceback before it."""
    if debug and isinstance(error, BaseException):
        import traceback  # imported here: errors are rare

        traceback.print_exception(error)
    print(f"penstock: error: {printable(sentence(error))}", file=sys.stderr, flush=True)


def sentence(error: BaseException | str) -> str:
    """Return the message of an error in one line, with its notes; for an operating system error, the file first."""
    if isinstance(error, str):
        return error
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, PenstockError) and error.strerror:
        files = [str(name) for name in (error.filename, error.filename2) if name is not None]
        text = f"{' -> '.join(files)}: {error.strerror}" if files else error.strerror
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    problems: list[str] = []
    for line in f"{text or type(error).__name__}{notes}".splitlines():
        if problems and line[:1] in ("", " ", "\t"):  # a continuation of the previous line
            problems[-1] += f" {line}"
        else:
            problems.append(line)
    return "; ".join(" ".join(problem.split()) for problem in problems)


def printable(text: str) -> str:
    """Return text in one line without control characters, since it may have come from a network."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return text of several lines, each of them printable."""
    return "\n".join(map(printable, text.split("\n")))
