"""`penstock read STORE…`: list what stores hold, or show one record of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click

from penstock.cli.console import printable, printable_lines
from penstock.errors import CannotGetObjectError, ConfigError, ObjectNotFoundError, UnknownComponentError
from penstock.plugins import Plugins
from penstock.record import Record
from penstock.store import SupportsRead


@click.command()
@click.argument("store")
@click.argument("more", nargs=-1, metavar="[STORE|SETTING=VALUE]...")
@click.option("--key", help="Show the record of this key in full.")
@click.option("--limit", type=click.IntRange(1), help="List at most this many records.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object per line, or the one record.")
def read(store: str, more: tuple[str, ...], key: str | None, limit: int | None, as_json: bool) -> None:
    """List the records in each STORE.

    Each line has the key, channel, number, time, coordinates and type of the data.

    STORE is a path (a directory of .npy or .json files or one of them, an LMDB directory, a log or npy-log), or the
    name of a store with its settings: penstock read npy path='archive/{{ seq }}.npy'. Of several stores, --key shows
    the record in the first that has it.
    """
    stores = [store, *(each for each in more if "=" not in each or Path(each).exists())]
    settings = dict(_setting(each) for each in more if each not in stores)
    if settings and len(stores) > 1:
        raise click.UsageError(f"{stores[1]!r}: settings are for one store: name that one alone")
    missing: list[ObjectNotFoundError] = []
    for each in stores:
        if key is None and len(stores) > 1 and not as_json:
            click.echo(printable(f"{each}:"))
        opened = _open(each, settings)
        try:
            if key is None:
                _list(each, opened, limit, as_json=as_json)
            else:
                _show(opened, key, as_json=as_json)
                return
        except ObjectNotFoundError as error:
            missing.append(error)
        finally:
            opened.close()
    if missing:
        raise missing[0]


def _show(opened: Any, key: str, *, as_json: bool) -> None:
    record = opened.get(key)
    click.echo(json.dumps({**_summary(key, record), "data": _in_full(record.data)}, default=str)
               if as_json else printable_lines(_shown(key, record)))  # fmt: skip


def _list(name: str, opened: Any, limit: int | None, *, as_json: bool) -> None:
    count = 0
    for each in islice(iter(opened.keys()), limit):
        count += 1
        try:
            summary = _summary(str(each), opened.get(each))
        except CannotGetObjectError as error:
            summary = {"key": str(each), "error": str(error)}
        click.echo(json.dumps(summary, default=str) if as_json else printable(_line(summary)))
    if not count and not as_json:
        click.echo(f"{name}: no records")


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"{text!r}: write settings as name=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _open(name: str, settings: dict[str, Any]) -> Any:
    """Create and open a store of this name, or the one that wrote this path."""
    path = Path(name)
    if settings or not path.exists():
        return _opened(name, settings)
    if path.is_file() and path.suffix == ".log" and not path.with_suffix(".idx").exists():
        return _Log(path)
    store, settings, prefix = _writer_of(path)
    opened = _opened(store, settings)
    only = path.name if path.is_file() and path.suffix in _ONE_FILE_EACH else ""
    return _Part(opened, prefix, only) if prefix or only else opened


def _opened(name: str, settings: dict[str, Any]) -> Any:
    from penstock.compose.resolve import build

    try:
        component = Plugins.discover().load("store", name)
    except UnknownComponentError as error:
        raise UnknownComponentError(f"{error}; and there is no file or directory {name!r}") from error
    try:
        store = build(component, settings)
    except ConfigError as error:
        raise ConfigError(f"store {name!r}: {error}") from error
    if not isinstance(store, SupportsRead):
        remedy = "; pass the path of its file alone" if name == "log" else ""
        raise ConfigError(f"store {name!r} cannot be read back{remedy}")
    store.open()  # type: ignore[attr-defined]  # every store has it
    return store


_ONE_FILE_EACH = {".npy": "npy", ".json": "json"}
"""The stores that write one file for each record, by the suffix of the files."""


def _writer_of(path: Path) -> tuple[str, dict[str, Any], str]:
    """Return the name and the settings of the store that wrote a path, and the prefix of the keys there.

    Raises ConfigError.
    """
    if path.suffix in (".lmdb", ".mdb") or (path / "data.mdb").exists():
        return "lmdb", {"path": str(path), "readonly": True}, ""
    folder = path if path.is_dir() else path.parent
    if path.is_dir() or path.suffix == ".npy":
        stacks = folder.rglob("*.times.npy") if path.is_dir() else iter((path.with_suffix(".times.npy"),))
        if any(each.exists() for each in stacks):
            return "npy-stack", {"path": "{{ channel }}.npy", "root": str(folder)}, ""
    segment = next(path.rglob("*.idx"), None) if path.is_dir() else path.with_suffix(".idx")
    if segment is not None and segment.with_suffix(".log").exists():
        channel = segment.parent  # a log has a directory for each channel, whose name begins the keys
        prefix = f"{channel.name}/" if path in (channel, segment.with_suffix(".log")) else ""
        return "npy-log", {"path": str(channel.parent)}, prefix
    for suffix, store in _ONE_FILE_EACH.items():
        found = next(folder.rglob(f"*{suffix}"), None) if path.is_dir() else path
        if found is not None and found.suffix == suffix:
            root, prefix = _archive_of(folder)
            beside = store == "npy" and found.with_name(f"{found.name}.json").exists()
            template = {"path": f"{{{{ seq }}}}{suffix}", "root": str(root)}
            return store, {**template, "sidecar": "json"} if beside else template, prefix
    raise ConfigError(f"{path}: no known store writes this; name it: penstock read npy path=…")


def _archive_of(folder: Path) -> tuple[Path, str]:
    """Return the directory of the archive that this is a part of, where its index is, and the prefix of its keys."""
    for above in (folder, *folder.absolute().parents):
        if (above / ".index").is_dir():
            return above, f"{folder.absolute().relative_to(above).as_posix()}/" if above != folder else ""
    return folder, ""


class _Part:
    """The records of a store below one of its directories, or in one file; their keys begin there."""

    def __init__(self, store: Any, prefix: str, only: str) -> None:
        self._store, self._prefix, self._only = store, prefix, only

    def keys(self) -> Iterator[str]:
        every = iter(self._store.keys())
        within = (key.removeprefix(self._prefix) for key in every if key.startswith(self._prefix))
        return (key for key in within if self._only in ("", key))

    def get(self, key: str) -> Record:
        record: Record = self._store.get(f"{self._prefix}{key}")
        return record

    def close(self) -> None:
        """Close the store."""
        self._store.close()


class _Log:
    """Read a log of records; the key of each is its index."""

    def __init__(self, path: Path) -> None:
        from penstock.recordlog import read_log

        self._records = [record for _, record in read_log(path)]

    def keys(self) -> Iterator[str]:
        return map(str, range(len(self._records)))

    def get(self, key: str) -> Record:
        try:
            return self._records[int(key)]
        except (ValueError, IndexError):
            raise ObjectNotFoundError(f"no record {key!r}: the keys are 0 to {len(self._records) - 1}") from None

    def close(self) -> None:
        """Do nothing."""


def _summary(key: str, record: Record) -> dict[str, Any]:
    data = record.data
    shape = getattr(data, "shape", None)
    kind: dict[str, Any] = {"type": type(data).__name__}
    if shape is not None:
        kind = {"shape": list(shape), "dtype": str(data.dtype)}
    elif isinstance(data, (str, bytes, bytearray, list, tuple, Mapping)):
        kind["length"] = len(data)
    return {
        "key": key,
        "channel": record.channel,
        "seq": record.seq,
        "time_ns": record.time_ns,
        "coords": dict(record.coords),
        "metadata": dict(record.metadata),
        **kind,
    }


def _line(summary: dict[str, Any]) -> str:
    if "error" in summary:
        return f"{summary['key']}  cannot be read: {summary['error']}"
    if "shape" in summary:
        what = f"{'x'.join(map(str, summary['shape'])) or 'scalar'} {summary['dtype']}"
    else:
        what = f"{summary['type']}" + (f" of {summary['length']}" if "length" in summary else "")
    coords = ", ".join(f"{axis}={value!r}" for axis, value in summary["coords"].items())
    channel = f"{summary['channel']!r}/{summary['seq']}"
    return "  ".join(part for part in (summary["key"], channel, _moment(summary["time_ns"]), coords, what) if part)


def _moment(time_ns: int) -> str:
    if not time_ns:
        return ""
    try:
        return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):  # out of the calendar's range
        return f"{time_ns} ns"


def _shown(key: str, record: Record) -> str:
    summary = _summary(key, record)
    metadata = [f"  {name}: {value!r}" for name, value in summary["metadata"].items()]
    return "\n".join([_line(summary), *(["metadata:", *metadata] if metadata else []), "data:", str(record.data)])


def _in_full(data: Any) -> Any:
    if hasattr(data, "tolist"):
        return data.tolist()
    return data.hex() if isinstance(data, (bytes, bytearray, memoryview)) else data
