"""YAML, safely: no tags of Python, no key twice, and 1e3 is a number as in JSON and YAML 1.2. Imported when needed."""

from __future__ import annotations

import re
from typing import Any

import yaml  # type: ignore[import-untyped]  # it has no annotations, nor need stubs be installed

from penstock.errors import ConfigError

_FLOAT = re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+\Z")  # what PyYAML takes for text
_LINE_ENDS = re.compile("[\r\x85\u2028\u2029\ufeff]")
_FLOAT_STARTS = list("-+0123456789")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # untyped, see above
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
            line = key.start_mark.line + 1
            if key.value in seen:
                problem = f"the key {key.value!r} is there twice (first in line {seen[key.value]}); leave one"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen[key.value] = line
        self.flatten_mapping(node)  # follows `<<`
        # A key is the text that is there: `on: 1` has the key "on", which YAML 1.1 would make True.
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # untyped, see above
    def ignore_aliases(self, data: Any) -> bool:
        return True  # the same list twice is two lists


def _text(dumper: Any, text: str) -> Any:
    # PyYAML writes some line ends of Unicode as they are, and reads them back as spaces; quoted they are escaped.
    style = '"' if _LINE_ENDS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _timestamp(loader: Any, node: Any) -> Any:
    try:
        return loader.construct_yaml_timestamp(node)
    except ValueError as error:  # a date such as 2020-13-40
        problem = f"{node.value!r} is no date: {error}; put quotes around it if it is text"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


_Dumper.add_representer(str, _text)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _timestamp)
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, _FLOAT_STARTS)


def load_yaml(text: str, name: str) -> Any:
    """Return what a YAML text holds. Raises ConfigError, which begins with `name` and the line."""
    try:
        return yaml.load(text, Loader=_Loader)
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
        raise ConfigError(f"{name}: is no YAML: {error}") from error


def dump_yaml(plain: Any) -> str:
    """Return plain data as YAML, keys in their order."""
    text: str = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text
