"""Pipelines from the JSON with which BOSS starts archivers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import penstock as ps
from penstock.errors import ConfigError
from penstock_zenoh.boss_form import ARCHIVERS, entries
from penstock_zenoh.hero import archivers
from penstock_zenoh.hero.name_template import path_template
from penstock_zenoh.hero.settings import retries, store_settings

_BY_STORE = ("save_template", "split_data_array", "merge_metadata", "when_exists")


def pipeline(content: Any, path: Path) -> ps.Pipeline:
    """Return the pipeline of a BOSS file: a HERO source and a store for each of its entries.

    Raises:
        ConfigError: a class is not an archiver, or does not have an argument; the message has the path in the file.
    """
    flows, dead = [], "penstock-dead-letters"
    for where, entry in entries(content):
        flow, dead = _flow(where, entry, dead)
        flows.append(flow)
    return ps.Pipeline(*flows, name=path.stem, dead_letters=dead)


def _flow(where: str, entry: Mapping[str, Any], dead: str) -> tuple[Any, str]:
    classname, arguments = entry.get("classname"), entry.get("arguments", {})
    kind = ARCHIVERS.get(str(classname).rpartition(".")[2])
    if kind is None:
        raise ConfigError(f"{where}.classname: {classname!r} is none of {', '.join(sorted(ARCHIVERS))}")
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"{where}.arguments: must be an object, not {arguments!r:.60}")
    given = _arguments(f"{where}.arguments", getattr(archivers, kind[0]), arguments)
    use, options = kind[1], {name: given[old] for old, name in kind[2].items()}
    name = str(entry.get("_id") or given["object_selector"])
    template = path_template(given["save_template"], given["default_metadata"] or {}, f".{use}")
    source = ps.source(
        "hero",
        name=name,
        object_selector=given["object_selector"],
        event_name=given["event_name"],
        default_metadata=dict(given["default_metadata"] or {}),
        describe=not options.get("merge_metadata", False),
        shape="arrays" if use == "npy" else "pair",
        heros_config=True,
        **{
            name: given[name]
            for name in ("realm", "sequence_key", "index", "listen", "connect", "config")
            if given.get(name) is not None
        },
    )
    settings = store_settings(use, template, given["when_exists"], options)
    retry = ps.Retry(times=retries(given["max_retries"]) + 1, wait_initial_s=0.02)
    return source >> ps.store(use, name=f"{name}-{use}", retry=retry, **settings), str(given.get("dead_letters", dead))


def _arguments(where: str, kind: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an archiver with its defaults. Raises ConfigError for unknown or missing ones."""
    known: dict[str, Any] = {}
    for cls in (kind, archivers.HERODataArchiver):
        for name, parameter in inspect.signature(cls).parameters.items():
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                known.setdefault(name, parameter.default)
    for name in arguments:
        if name not in known:
            raise ConfigError(f"{where}.{name}: {kind.__name__} has no such argument; it has {', '.join(known)}")
    given = {**known, **arguments}
    for name, value in given.items():
        if value is inspect.Parameter.empty:
            raise ConfigError(f"{where}: {kind.__name__} needs {name!r}")
    return given
