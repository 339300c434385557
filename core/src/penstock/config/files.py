"""Plain data from and to .toml, .yaml, .yml and .json files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from penstock.config.plain import MAX_DEPTH, to_plain
from penstock.config.same import difference
from penstock.errors import ConfigError
from penstock.whole_files import write_whole

SUFFIXES = (".toml", ".yaml", ".yml", ".json")
_MAX_ITEMS = 1_000_000  # after aliases of YAML are followed, so that a small file cannot exhaust the memory


def read_config(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the mapping in a .toml, .yaml, .yml or .json file.

    Raises:
        ConfigError: the suffix is unknown, or the file has no mapping, a duplicate key, a tag of Python, or is not
            in its format; the message begins with the file and, where it is known, the line.
        OSError: the file cannot be read.
    """
    return _mapping(*_read_bytes(Path(path)))


def read_plain(path: str | PathLike[str]) -> Any:
    """Return the mapping, list or scalar in a .toml, .yaml, .yml or .json file. Raises as `read_config`."""
    text, suffix, path = _read_bytes(Path(path))
    plain = _parsed(text, suffix, path)
    _check_size(plain, path)
    return plain


def _read_bytes(path: Path) -> tuple[str, str, Path]:
    suffix = _suffix(path)
    try:
        return path.read_bytes().decode("utf-8-sig"), suffix, path
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _parsed(text: str, suffix: str, path: Path) -> Any:
    try:
        return _parse(text, suffix, path)
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deep") from error


def _mapping(text: str, suffix: str, path: Path) -> dict[str, Any]:
    plain = _parsed(text, suffix, path)
    if plain is None or plain == {}:
        if not text.strip() or plain is None:
            raise ConfigError(f"{path}: is empty; write a mapping, as in 'rate: 30'")
        return {}
    if not isinstance(plain, dict):
        raise ConfigError(f"{path}: must be a mapping of names to values, not {type(plain).__name__}")
    _check_size(plain, path)
    _check_scalars(plain, path)
    return plain


def parse_config(text: str, path: str | PathLike[str]) -> dict[str, Any]:
    """Return the mapping in the text of a file of this name. Raises ConfigError as `read_config` does."""
    path = Path(path)
    return _mapping(text, _suffix(path), path)


def write_config(
    path: str | PathLike[str], plain: Mapping[str, Any], *, check: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """Write a mapping to a .toml, .yaml, .yml or .json file: the whole of it or, on any error, nothing.

    The text is read back before it is written, and refused if it would be read differently. TOML has no null:
    keys whose value is None are omitted.

    Args:
        path: The file.
        plain: The mapping.
        check: Called with the mapping read back from the text, before it is written; its errors stop the writing.

    Raises:
        ConfigError: the suffix is unknown, a value is not plain data, or would be read back differently.
        OSError: the file cannot be written.
    """
    path = Path(path)
    text, back = _formatted(path, plain)
    if check is not None:
        check(back)
    write_whole(path, text.encode())


def format_config(path: str | PathLike[str], plain: Mapping[str, Any]) -> str:
    """Return the text that `write_config` would write to a file of this name. Raises ConfigError as it does."""
    return _formatted(Path(path), plain)[0]


def _formatted(path: Path, plain: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the text for a mapping, and the equal mapping read back from it."""
    suffix = _suffix(path)
    checked = to_plain(plain)
    if not isinstance(checked, dict):
        raise ConfigError(f"{path}: expected a mapping of names to values, not {type(plain).__name__}")
    _check_scalars(checked, path)
    try:
        text = _format(checked, suffix, path)
        back = _mapping(text, suffix, path)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # the libraries raise these
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: cannot be written as {suffix[1:].upper()}: {error}") from error
    wanted = _without_none(checked, "$", path) if suffix == ".toml" else checked
    if said := difference(wanted, back):
        raise ConfigError(f"{path}: {said} in {suffix[1:].upper()}; nothing was written")
    return text, back


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path}: has none of the suffixes {', '.join(SUFFIXES)}")
    return suffix


def _parse(text: str, suffix: str, path: Path) -> Any:
    if suffix == ".toml":
        import tomllib

        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: is not TOML: {error}") from error
    if suffix == ".json":
        return _parse_json(text, path)
    from penstock.config.yaml_format import load_yaml

    return load_yaml(text, str(path))


def _parse_json(text: str, path: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"{path}: the key {twice!r} occurs twice; remove one")
        return found

    if not text.strip():
        return None
    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: is not JSON: {error.msg} (column {error.colno})") from error
    except ConfigError:
        raise
    except ValueError as error:  # a number of too many digits
        raise ConfigError(f"{path}: is not JSON: {error}") from error


def _format(plain: dict[str, Any], suffix: str, path: Path) -> str:
    if suffix == ".toml":
        import tomli_w

        return tomli_w.dumps(_without_none(plain, "$", path)) or "# nothing is set\n"
    if suffix == ".json":
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"
    from penstock.config.yaml_format import dump_yaml

    return dump_yaml(plain)


def _without_none(plain: Any, where: str, path: Path) -> Any:
    if isinstance(plain, dict):
        return {key: _without_none(value, f"{where}.{key}", path) for key, value in plain.items() if value is not None}
    if isinstance(plain, list):
        if None in plain:
            raise ConfigError(f"{path}: {where} has a None in a list, which TOML cannot hold; use YAML or JSON")
        return [_without_none(value, f"{where}[{index}]", path) for index, value in enumerate(plain)]
    return plain


def _check_scalars(plain: Any, path: Path) -> None:
    """Refuse lone surrogates, which UTF-8 cannot encode, and integers with more digits than Python prints."""
    waiting = [(plain, "$")]
    while waiting:
        value, where = waiting.pop()
        try:
            if isinstance(value, str):
                value.encode()
            elif type(value) is int:
                str(value)
        except UnicodeEncodeError as error:
            raise ConfigError(f"{path}: {where}: {value!a:.80} is not text: it holds a surrogate") from error
        except ValueError as error:
            raise ConfigError(f"{path}: {where}: a number of too many digits: {error}") from error
        if isinstance(value, dict):
            waiting += [(name, f"{where} key") for name in value]
            waiting += [(item, f"{where}.{name!s}"[:200]) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [(item, f"{where}[{index}]") for index, item in enumerate(value)]


def _check_size(plain: Any, path: Path) -> None:
    waiting, count = [(plain, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        count += len(items)
        if depth > MAX_DEPTH or count > _MAX_ITEMS:
            raise ConfigError(f"{path}: is nested too deep or too large: over {MAX_DEPTH} levels or {_MAX_ITEMS} items")
        waiting.extend((item, depth + 1) for item in items if isinstance(item, dict | list))
