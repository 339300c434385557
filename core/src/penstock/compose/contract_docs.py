"""Appends the contract to the docstrings of `ps.source` and the like, so that `help(ps.source)` shows it in full.

The function `ps.source` replaces the module `penstock.source` in the package (see
docs/decisions/0001-functions-and-modules-of-one-name.md), and with it the module's help.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
_SPECIAL = ("__contains__", "__len__")
"""Methods of a contract that need no docstring."""
_TAKES_KEYWORDS = 0x08
"""The flag of a function with `**keywords` (inspect.CO_VARKEYWORDS)."""


def shows_contract(contract: ModuleType) -> Callable[[F], F]:
    """Return a decorator that appends what a contract's module says to the docstring of a function."""

    def decorate(function: F) -> F:
        if function.__doc__:  # not under python -OO
            indent = " " * _least_indent(function.__doc__.splitlines()[1:])  # 0 from Python 3.13 on
            function.__doc__ = f"{function.__doc__.rstrip()}\n\n{_text(contract, indent)}\n{indent}"
        return function

    return decorate


def _text(contract: ModuleType, indent: str) -> str:
    """Return the docstrings of a module, its protocols and their methods, with this indentation."""
    lines = [f"The contract, in `{contract.__name__}`: {contract.__doc__}"]
    for name, thing in vars(contract).items():
        if isinstance(thing, type) and thing.__module__ == contract.__name__:
            lines += ["", f"class {name}:", *_indented(thing.__doc__, 4)]
            hints = vars(thing).get("__annotations__", {})
            lines += [line for attribute, hint in hints.items() for line in ("", f"    {attribute}: {hint}")]
            for attribute, method in vars(thing).items():
                method = getattr(method, "__func__", method)
                if isinstance(method, FunctionType) and (method.__doc__ or attribute in _SPECIAL):
                    lines += ["", f"    {_signature(attribute, method)}", *_indented(method.__doc__, 8)]
    return "\n".join(f"{indent}{line}" if line else "" for line in lines)


def _signature(name: str, method: FunctionType) -> str:
    """Return "read(max_records: int, timeout_s: float) -> Sequence[Record]"; `inspect` would have to be imported."""
    code, hints = method.__code__, method.__annotations__
    count = code.co_argcount + code.co_kwonlyargcount
    names = [(name, "") for name in code.co_varnames[:count]]
    if code.co_kwonlyargcount:
        names.insert(code.co_argcount, ("*", ""))
    if code.co_flags & _TAKES_KEYWORDS:
        names.append((code.co_varnames[count], "**"))
    arguments = [
        f"{stars}{one}: {hints[one]}" if one in hints else f"{stars}{one}"
        for one, stars in names
        if one not in ("self", "cls")
    ]
    return f"{name}({', '.join(arguments)}) -> {hints.get('return', 'None')}"


def _indented(text: str | None, by: int) -> list[str]:
    if not text:
        return []
    first, *rest = text.strip().splitlines()
    least = _least_indent(rest)
    return [" " * by + first, *(" " * by + line[least:].rstrip() if line.strip() else "" for line in rest)]


def _least_indent(lines: list[str]) -> int:
    """Return the indentation that all these lines have, those without text apart."""
    return min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
