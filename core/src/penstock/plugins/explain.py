"""Explain why a component is not available, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penstock.component import ROLES
from penstock.plugins.report import Offer, PluginReport
from penstock.suggestions import nearest

INSTALLABLE = {
    "av": "penstock-kafka-av",
    "background-difference": "penstock-kafka-av",
    "h264": "penstock-kafka-av",
    "hero": "penstock-zenoh",
    "hevc": "penstock-kafka-av",
    "image": "penstock-kafka-av",
    "store json": "penstock-npy",
    "kafka": "penstock-kafka-av",
    "kafka-link": "penstock-kafka-av",
    "lmdb": "penstock-lmdb",
    "npy": "penstock-npy",
    "npy-files": "penstock-npy",
    "npy-log": "penstock-npy",
    "npy-stack": "penstock-npy",
    "npz": "penstock-npy",
    "shm": "penstock-shm",
    "shm-objects": "penstock-shm",
    "test-picture": "penstock-kafka-av",
    "thumbnail": "penstock-kafka-av",
    "video": "penstock-kafka-av",
    "zenoh": "penstock-zenoh",
}
"""The distribution for each well-known component name; "store json" where the role matters."""

_LONGEST = 500
"""Longest error message shown; the traceback has the rest."""


def unknown(role: str, name: str, offers: Iterable[Offer], reports: Sequence[PluginReport]) -> str:
    """Return why there is no component of this role and name, and the remedy."""
    plugin, _, short = name.rpartition(":")
    every = list(offers)
    of_role = sorted({offer.component.name for offer in every if offer.role == role})
    parts = [f"there is no {role} {name!r}"]
    if plugin:
        parts[0] += _about_plugin(plugin, reports)
    close = nearest(short, of_role, count=3)
    elsewhere = [r for r in ROLES if r != role and any(o.role == r and o.component.name == short for o in every)]
    holders = sorted({offer.qualified for offer in every if offer.role == role and offer.component.name == short})
    if elsewhere:
        parts.append(f"{short!r} is a {' and a '.join(elsewhere)}, not a {role}")
    if not holders:
        parts += _remedy(plugin, role, short, reports, may_be_other=bool(elsewhere or close))
    parts.append(f"known {role}s: {', '.join(of_role)}" if of_role else f"no plugin that works offers a {role}")
    meant = [repr(each) for each in holders or close]
    if meant:
        parts.append(f"did you mean {' or '.join(meant)}?")
    return "; ".join(parts)


def brings(error: BaseException) -> str | None:
    """Return the distribution of this project that contains a module missing on import, if any."""
    missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    home = missing.partition(".")[0].replace("_", "-")
    return home if home in INSTALLABLE.values() else None


def _about_plugin(plugin: str, reports: Sequence[PluginReport]) -> str:
    mine = [report for report in reports if report.name == plugin]
    if not mine:
        return f", since no plugin {plugin!r} is installed"
    if mine[0].status != "ok":
        return f", since plugin {mine[0].title} is {mine[0].status}"
    return f" in {mine[0].title}"


def _remedy(plugin: str, role: str, short: str, reports: Sequence[PluginReport], *, may_be_other: bool) -> list[str]:
    """Return the distribution to install, or the unused plugins that may offer it."""
    exact = INSTALLABLE.get(f"{role} {short}")
    home = plugin or exact or INSTALLABLE.get(short)
    is_missing = home in INSTALLABLE.values() and home not in {report.name for report in reports}
    if is_missing and (exact or not may_be_other):
        return [f"`pip install {home}` brings it"]
    unused = [report for report in reports if report.status != "ok"]
    likely = [report for report in unused if report.name == home or (short in report.name and not plugin)]
    if not likely and not may_be_other and not plugin:
        likely = unused
    if not likely and not may_be_other and not plugin:
        meant = nearest(short, [name for name in INSTALLABLE if " " not in name], cutoff=0.75)
        homes = [INSTALLABLE[name] for name in meant]
        if homes and homes[0] not in {report.name for report in reports}:
            return [f"did you mean {meant[0]!r}, which `pip install {homes[0]}` brings?"]
    reasons = [f"{report.title} is {report.status}: {report.reason}" for report in likely]
    return [f"it may come from a plugin that is not in use ({' | '.join(reasons)})"] if reasons else []


def message_line(error: BaseException) -> str:
    """Return the message of an error, as one printable line; never raises."""
    try:
        text = " ".join(str(error).split())
    except (Exception, SystemExit):  # its class belongs to a plugin
        return "(its message cannot be printed)"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def ambiguous(role: str, name: str, offers: Sequence[Offer]) -> str:
    """Return that several plugins offer this, and how to choose."""
    plugins = " and ".join(f"{offer.plugin} {offer.version}".strip() for offer in offers)
    choice = " or ".join(repr(offer.qualified) for offer in offers)
    return f"{role} {name!r} is offered by {plugins}; write {choice}"


def not_loadable(offer: Offer, module: str, error: BaseException) -> str:
    """Return why the module of a component cannot be imported, and the remedy."""
    library = offer.component.requires
    message = message_line(error) or type(error).__name__
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and f"{module}.".startswith(f"{missing}."):
        advice = f"`pip install --force-reinstall {offer.plugin}`, or write to its authors"
        return f"{offer.title} leads to {module!r}, and there is no module {missing!r}; {advice}"
    if missing:
        # The plugin's requirements are installed (others are reported): this one is an extra or undeclared.
        advice = f"`pip install {library or missing}`, or an extra of {offer.plugin} that brings it"
        return f"{offer.title} needs {(library or missing)!r}, which is not installed; {advice}"
    if isinstance(error, ImportError) and library:
        advice = f"`pip install --force-reinstall {library}`"
        return f"{offer.title} needs {library!r}, which is installed and cannot be imported ({message}); {advice}"
    return f"{offer.title} cannot be imported: {module!r} raised {type(error).__name__}: {message}"
