"""Installed entry points: listed in a fixed order, and checked by their metadata before any import."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from penstock.hookspecs import CONTRACT, ENTRY_POINT_GROUP, PROJECT
from penstock.plugins.report import PluginReport, Status, normalised

NAMELESS = "(no name)"
"""The name in the report of a distribution whose metadata is damaged."""

_VersionOf = Callable[[str], str | None]
_CONTRACT_GROUP = re.compile(rf"{PROJECT}\.(v\d+)\Z")
_LIKE_OURS = rf"{PROJECT}([-_.]?(plugins?|hooks?|v?\.?\d+))?"
_MEANT = re.compile(rf"{_LIKE_OURS}\Z", re.IGNORECASE)
_SECTION = re.compile(rf"^\s*\[\s*{_LIKE_OURS}\s*\]", re.IGNORECASE | re.MULTILINE)
_PLAIN = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?P<specifier>((~=|==|!=|<=|>=|<|>)\s*[0-9][0-9A-Za-z.!+*-]*\s*(,\s*|\Z))*)\Z"
)
_OF_AN_EXTRA = re.compile(r";\s*extra\s*==\s*['\"][A-Za-z0-9._-]+['\"]\s*\Z")
_VERSION = re.compile(r"^Version:[ \t]*(\S+)", re.MULTILINE)
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")


def find_installed(path: Sequence[str] | None, *, without: frozenset[str]) -> list[PluginReport]:
    """Return a report for every entry point of every contract, sorted by distribution and entry.

    Nothing is imported. Those with the status "ok" are still to be imported and examined; the others are final.

    Args:
        path: Directories to look in; None for `sys.path`.
        without: Normalised names of the distributions to leave out; "*" means all except penstock's own.
    """
    places = list(dict.fromkeys(sys.path if path is None else path))
    reports: list[PluginReport] = []
    first: dict[str, PluginReport] = {}
    version_of = functools.cache(functools.partial(_version, path=path))
    for found in _distributions(places):
        of_it = list(_reports(found, version_of, without))
        if of_it and found.name in first and found.name != NAMELESS:
            of_it = [_second_copy(of_it[0], first[found.name])]
        elif of_it:
            first[found.name] = of_it[0]
        reports += of_it
    return sorted(reports, key=lambda report: (report.name, report.entry))


@attrs.frozen
class _Found:
    """A distribution with entry points for penstock. `location` is the directory of its modules."""

    distribution: importlib.metadata.Distribution
    name: str
    version: str
    location: str
    requires: tuple[str, ...]


def _distributions(places: list[str]) -> list[_Found]:
    """Return them by place on the path, then by name, then the newest first."""
    found: dict[tuple[str, str, str], _Found] = {}
    order: dict[str, int] = {}
    for distribution in importlib.metadata.distributions(path=places):
        text = _text(distribution)
        location = os.path.realpath(str(distribution.locate_file("")))
        order.setdefault(location, len(order))
        if not _SECTION.search(text):
            continue
        name, version, requires = _read(distribution)
        found.setdefault((location, name, version), _Found(distribution, name, version, location, requires))
    newest_first = sorted(found.values(), key=lambda each: _age(each.version), reverse=True)
    return sorted(newest_first, key=lambda each: (order[each.location], each.name))


def _read(distribution: importlib.metadata.Distribution) -> tuple[str, str, tuple[str, ...]]:
    """Return name, version and requirements; parsed once, and defaults where the metadata is damaged."""
    try:
        metadata = distribution.metadata
        fields = [(metadata.get_all(field) or [""])[0] for field in ("Name", "Version")]
        requires = tuple(metadata.get_all("Requires-Dist") or ())
    except (OSError, UnicodeDecodeError, TypeError):  # TypeError: Python 3.14 returns None without metadata
        return NAMELESS, "", ()
    return normalised(fields[0]) if fields[0] else NAMELESS, fields[1], requires


def _text(distribution: importlib.metadata.Distribution) -> str:
    try:
        return distribution.read_text("entry_points.txt") or ""
    except (OSError, UnicodeDecodeError):  # it is unknown whether it is a plugin
        return ""


def _age(version: str) -> tuple[bool, Version]:
    try:
        return True, Version(version)
    except InvalidVersion:
        return False, Version("0")


def _reports(found: _Found, version_of: _VersionOf, without: frozenset[str]) -> Iterator[PluginReport]:
    """Yield one for each entry point of penstock, including misspelled groups."""
    base = PluginReport(name=found.name, version=found.version, location=found.location)
    try:
        entries = [e for e in found.distribution.entry_points if _MEANT.match(e.group)]
    except Exception as error:  # its parser raises anything for a malformed file
        problem = f"its entry_points.txt cannot be read ({error}); install it again: pip install --force-reinstall"
        yield attrs.evolve(base, status="broken", reason=f"{problem} {found.name}")
        return
    spoken = any(entry.group == ENTRY_POINT_GROUP for entry in entries)
    for entry in sorted(entries, key=lambda e: (e.name, e.group, e.value)):
        if spoken and entry.group != ENTRY_POINT_GROUP:
            continue  # it supports several contracts, this one among them
        status, reason = _judge(entry, found, version_of, without)
        yield attrs.evolve(base, entry=entry.name, module=entry.value, status=status, reason=reason)


def _judge(
    entry: importlib.metadata.EntryPoint, found: _Found, version_of: _VersionOf, without: frozenset[str]
) -> tuple[Status, str]:
    if found.name in without or ("*" in without and found.name != PROJECT):
        return "left out", "the user named it in PENSTOCK_WITHOUT, or in without="
    if found.name == NAMELESS:
        return "broken", "its metadata has no name; remove its files, and install it again"
    contract = _CONTRACT_GROUP.match(entry.group)
    if contract is None:
        return "broken", f"entry-point group {entry.group!r} is not known; did you mean {ENTRY_POINT_GROUP!r}?"
    if contract[1] != CONTRACT:
        return "incompatible", (
            f"written for contract {contract[1]}, while this penstock speaks {CONTRACT}; install a version of "
            f"{found.name} for {CONTRACT}, or another penstock"
        )
    if not _MODULE.match(entry.value):
        return "broken", f"entry point {entry.name} = {entry.value!r}: name a module, as in 'penstock_npy.hooks'"
    return _unmet(found, version_of) or ("ok", "")


def _unmet(found: _Found, version_of: _VersionOf) -> tuple[Status, str] | None:
    """Return the problem if it needs another penstock, or a distribution that is missing or of another version."""
    for name, specifier in _requirements(found.requires):
        version = version_of(normalised(name))
        if version is None and normalised(name) != PROJECT:  # penstock may run from its sources
            return "broken", f"needs {name}, which is not installed; `pip install {found.name}` brings it"
        if not version or _is_in(version, specifier):
            continue
        wanted = f"needs {name} {specifier}, and {{}} {version}"
        if normalised(name) == PROJECT:
            remedy = f"install a version of {found.name} for it, or another penstock"
            return "incompatible", f"{wanted.format('this is')}; {remedy}"
        remedy = f"`pip install '{name}{specifier}'`, or a version of {found.name} for the installed one"
        return "broken", f"{wanted.format('there is')}; {remedy}"
    return None


def _is_in(version: str, specifier: str) -> bool:
    try:
        return not specifier or SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except InvalidVersion:  # it cannot be compared; the import decides
        return True


def _version(name: str, *, path: Sequence[str] | None) -> str | None:
    """Return a distribution's version, found in `path` or `sys.path`; None if it is not installed, "" if unknown."""
    context = importlib.metadata.DistributionFinder.Context
    places = [context(name=name)] if path is None else [context(name=name, path=list(path)), context(name=name)]
    for place in places:
        for found in importlib.metadata.distributions(context=place):
            return _version_line(found)
    return None


def _version_line(distribution: importlib.metadata.Distribution) -> str:
    """Return its version; parsing all of its metadata, which may hold long licences, would cost ten times as much."""
    try:
        line = _VERSION.search(distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or "")
    except (OSError, UnicodeDecodeError):
        return ""
    return line[1] if line else ""


def _requirements(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the versions ("<0.2,>=0.1") of the requirements that apply here.

    The parser of `packaging` takes as long to import as all of this module: it is used only for complex ones.
    """
    for text in texts:
        plain = _PLAIN.match(text)
        if plain is not None:
            yield plain["name"], plain["specifier"]
        elif not _OF_AN_EXTRA.search(text):
            from packaging.requirements import InvalidRequirement, Requirement  # see above

            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue  # it did not prevent the installation; the import decides
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                yield requirement.name, str(requirement.specifier)


def _second_copy(second: PluginReport, first: PluginReport) -> PluginReport:
    """Return the report of a distribution that another of the same name shadows."""
    if second.location == first.location:
        return attrs.evolve(
            second,
            status="broken",
            reason=(
                f"installed twice in {first.location}, as {first.version} and {second.version}, and the files "
                f"belong to one of them; pip uninstall {first.name} until none is left, and install it again"
            ),
        )
    return attrs.evolve(
        second, status="left out", reason=f"{first.title} in {first.location} comes before it on the path"
    )
