"""Extract from a file's name the values that a template put into it."""

from __future__ import annotations

import re
from typing import Any

import attrs

_TAG = re.compile(r"\{\{\s*(.*?)\s*\}\}|\{[%#].*?[%#]\}", re.DOTALL)
_PLAIN = re.compile(r"(?:(coords|metadata)\.)?([A-Za-z_]\w*)\Z")
_NUMBER = re.compile(r"(['\"])%(0?)(\d*)d\1\s*%\s*(?:(coords|metadata)\.)?([A-Za-z_]\w*)\Z")
_FORMAT = re.compile(r"\|\s*format\(\s*(.*?)\s*\)\Z")
_ITEM = re.compile(r"\[\s*(['\"])(\w+)\1\s*\]")
_FIELDS = ("channel", "seq", "time_ns")


@attrs.define(eq=False)
class NamePattern:
    """Match the names that a template makes: `{{ channel }}/{{ '%06d' % seq }}.npy`.

    Understood are names alone, `coords.z` and `coords['z']`, and `'%06d' % name` or `'%06d'|format(name)`; of any other
    expression nothing is known but that it is there.

    Args:
        text: The template.
    """

    text: str
    _pattern: re.Pattern[str] = attrs.field(init=False)
    _groups: dict[str, tuple[str, str, bool]] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        first = _TAG.search(self.text)
        start = self.text.rfind("/", 0, first.start() if first else None) + 1
        # Names are below the root, which this part is, or, if the store was given another one, is not.
        parts, text, end = [f"(?:{re.escape(self.text[:start])})?"], self.text[start:], 0
        for tag in _TAG.finditer(text):
            parts += [re.escape(text[end : tag.start()]), self._group(tag[1] or "")]
            end = tag.end()
        self._pattern = re.compile("".join([*parts, re.escape(text[end:])]), re.DOTALL)

    def _group(self, expression: str) -> str:
        expression = _FORMAT.sub(r"% \1", _ITEM.sub(r".\2", expression))
        number, plain = _NUMBER.match(expression), _PLAIN.match(expression)
        found = number or plain
        if found is None:
            return r".+?"
        where, name = found.groups()[-2:]
        is_number = number is not None or name in ("seq", "time_ns", "_split_index")
        for group, known in self._groups.items():
            if known[:2] == (where or "", name):
                return f"(?:(?P={group})|.+?)"
        group = f"g{len(self._groups)}"
        self._groups[group] = where or "", name, is_number
        if not is_number:
            return f"(?P<{group}>.+?)"
        if number is None or not number[2] or not number[3]:
            return f"(?P<{group}> *-?\\d+)"
        width = int(number[3])  # so that numbers without anything between them come apart
        return f"(?P<{group}>-\\d{{{max(1, width - 1)},}}|\\d{{{width},}})"

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the fields of a record from a name, `coords` and `metadata` as dicts; None for other names."""
        found = self._pattern.fullmatch(name)
        if found is None:
            return None
        fields: dict[str, Any] = {"coords": {}, "metadata": {}}
        for group, (where, key, is_number) in self._groups.items():
            value: Any = int(found[group]) if is_number else found[group]
            if where == "coords" and not is_number and re.fullmatch(r"-?(0|[1-9]\d{0,17})", value):
                value = int(value)
            if not where and key in _FIELDS:
                fields[key] = value
            elif where != "coords":
                fields["metadata"][key] = value
            else:
                fields["coords"][key] = value
        return fields
