"""YAML 1.2, safely: the core schema, without Python tags and duplicate keys. Imported when needed.

PyYAML scans and writes; plain words are resolved here, by the core schema of YAML 1.2 (section 10.3.2 of its
specification): `yes`, `22:22`, `1_000` and `2026-01-31` are text, `010` is ten and `0o10` eight.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import yaml  # type: ignore[import-untyped]  # it has no annotations, and stubs are not required

from penstock.errors import ConfigError

_log = logging.getLogger("penstock.config")
_PLAIN_WORDS = {
    "null": (re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    "int": (re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), list("-+0123456789")),
    "float": (
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        list("-+.0123456789"),
    ),
}
_LINE_ENDS = re.compile("[\r\x85\u2028\u2029\ufeff]")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # untyped, see above
    yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile(r"<<\Z"))]}  # 1.1's, kept for old files

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is not text", key.start_mark)
            line = key.start_mark.line + 1
            if key.value in seen:
                problem = f"the key {key.value!r} occurs twice (first in line {seen[key.value]}); remove one"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen[key.value] = line
        self.flatten_mapping(node)  # follows `<<`
        # A key is its literal text: `on: 1` has the key "on", which YAML 1.1 would make True.
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # untyped, see above
    def ignore_aliases(self, data: Any) -> bool:
        return True  # the same list twice is two lists


def _text(dumper: Any, text: str) -> Any:
    # PyYAML writes some line ends of Unicode as they are, and reads them back as spaces; quoted they are escaped.
    style = '"' if _LINE_ENDS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _int(loader: Any, node: Any) -> int:
    word = loader.construct_scalar(node)
    digits = word.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0" and digits.isdecimal():
        message = "%s:%d: %s is the decimal number %d in YAML 1.2 (older YAML: octal); write 0o… for octal"
        _log.warning(message, loader.name, node.start_mark.line + 1, word, int(word))
    try:
        return int(word, 0) if digits[:2] in ("0o", "0x") else int(word)
    except ValueError as error:
        problem = f"{word!r:.80} is not a whole number: {error}"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


_Dumper.add_representer(str, _text)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)
for _name, (_word, _starts) in _PLAIN_WORDS.items():
    # Text is quoted where YAML 1.1 or 1.2 would read another type, so that both read it alike.
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _word, _starts)


def load_yaml(text: str, name: str) -> Any:
    """Return the content of a YAML text. Raises ConfigError, which begins with `name` and the line."""
    try:
        loader = _Loader(text)
        loader.name = name
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        problem = error.problem or error.context or "cannot be read"
        if problem.startswith("could not determine a constructor"):
            problem = (
                f"{problem.removeprefix('could not determine a constructor for the ')} is not allowed; plain data only"
            )
        raise ConfigError(f"{where}: {problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{name}: is not YAML: {error}") from error


def dump_yaml(plain: Any) -> str:
    """Return plain data as YAML, keys in their order."""
    text: str = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text
