"""Plugins: the plugins found, as a value."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs
import pluggy

from penstock.arguments import checks_arguments
from penstock.component import ROLES
from penstock.errors import AmbiguousComponentError, ComponentLoadError, ConfigError, PluginError, UnknownComponentError
from penstock.plugins import explain
from penstock.plugins.examine import examine
from penstock.plugins.report import Offer, PluginReport, normalised
from penstock.plugins.watch import is_traced, new_manager, trace, watch
from penstock.suggestions import nearest


@checks_arguments
@attrs.frozen(eq=False)
class Plugins:
    """The result of a search: a report for each plugin, the components of working ones, and their run hooks.

    Made by `discover`, or directly from reports in tests. Immutable; any thread may use it.
    """

    reports: tuple[PluginReport, ...] = ()
    prefer: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    manager: pluggy.PluginManager = attrs.field(factory=new_manager, kw_only=True, repr=False)

    def __repr__(self) -> str:
        return f"Plugins({', '.join(map(repr, self.reports))})"

    @classmethod
    @checks_arguments
    def discover(
        cls,
        path: Sequence[str] | None = None,
        *,
        without: Iterable[str] = (),
        prefer: Iterable[str] = (),
        strict: bool = False,
    ) -> Plugins:
        """Find the installed plugins, and examine each in isolation.

        Errors of a plugin are in its report and never raised: see `PluginReport.status`. They are sorted by
        distribution name, independently of the disk.

        Args:
            path: Directories to look for metadata in; None for `sys.path`. Modules are imported normally: these
                directories must be on `sys.path` too.
            without: Distributions to leave out, besides those in the environment variable PENSTOCK_WITHOUT
                ("penstock-npy,penstock-shm"; "*" means all except penstock's own).
            prefer: Distributions, or qualified names ("penstock-npy", "penstock-npy:npy"), that win where several
                plugins offer one name; those named earlier win over later ones.
            strict: Raise if a plugin is broken or incompatible.

        Raises:
            PluginError: `strict`, and a plugin is broken or incompatible; all of them are named.
            KeyboardInterrupt: the user interrupted the import of a plugin, which a note names.
        """
        from penstock.plugins.installed import find_installed  # imported here: it is heavy

        names = (*without, *os.environ.get("PENSTOCK_WITHOUT", "").split(","))
        manager = new_manager()
        reports: list[PluginReport] = []
        for found in find_installed(path, without=frozenset(normalised(name) for name in names)):
            if is_traced() and found.status == "ok":
                trace(f"{found.title}: importing {found.module}")  # before it can crash the program
            report, hooks = examine(found) if found.status == "ok" else (found, {})
            report = _without_repeats(report, reports)
            if report.status == "ok":
                watch(manager, report, hooks)
            reports.append(report)
            if is_traced():
                trace(_summary(report))
        failed = [report for report in reports if report.status in ("broken", "incompatible")]
        if strict and failed:
            raise PluginError("; ".join(f"plugin {r.title} is {r.status}: {r.reason}" for r in failed))
        return cls(
            tuple(reports),
            prefer=tuple(_normalised(name if ":" in name else f"{name}:") for name in prefer),
            manager=manager,
        )

    def __iter__(self) -> Iterator[PluginReport]:
        """Yield the reports, sorted by the distributions' names."""
        return iter(self.reports)

    @property
    def hook(self) -> pluggy.HookRelay:
        """Return the caller of the run hooks: `plugins.hook.penstock_checkpoint(name=…, positions=…)`.

        These calls never raise errors of a plugin: they are logged.
        """
        return self.manager.hook

    @checks_arguments
    def components(self, role: str) -> list[Offer]:
        """Return the components of a role, sorted by name and then by plugin. Raises ConfigError for another role."""
        if role not in ROLES:
            close = nearest(str(role), ROLES, cutoff=0.5)
            raise ConfigError(f"role {role!r}: {f'did you mean {close[0]!r}' if close else 'use ' + ', '.join(ROLES)}")
        offers = [
            Offer(plugin=report.name, version=report.version, role=role, component=component)
            for report in self.reports
            if report.status == "ok"
            for component in report.components.get(role, ())
        ]
        return sorted(offers, key=lambda offer: (offer.component.name, offer.plugin))

    @checks_arguments
    def find(self, role: str, name: str) -> Offer:
        """Return the offer of this name, "npy", or of this plugin and name, "penstock-npy:npy".

        Raises:
            UnknownComponentError: no working plugin offers it; the message has close and known names, and the remedy.
            AmbiguousComponentError: several plugins offer it, and `prefer` names none of them.
        """
        wanted = _normalised(name)
        plugin, _, short = wanted.rpartition(":")
        offers = [
            offer
            for offer in self.components(role)
            if offer.component.name == short and (not plugin or offer.plugin == plugin)
        ]
        if len(offers) > 1:
            offers = self._preferred(offers)
        if not offers:
            every = (offer for each in ROLES for offer in self.components(each))
            raise UnknownComponentError(explain.unknown(role, wanted, every, self.reports))
        if len(offers) > 1:
            raise AmbiguousComponentError(explain.ambiguous(role, short, offers))
        return offers[0]

    def ambiguous(self) -> list[tuple[Offer, ...]]:
        """Return the offers that share role and name with others, unless `prefer` chooses one."""
        shared = []
        for role in ROLES:
            by_name: dict[str, list[Offer]] = {}
            for offer in self.components(role):
                by_name.setdefault(offer.component.name, []).append(offer)
            shared += [tuple(o) for o in by_name.values() if len(o) > 1 and len(self._preferred(o)) > 1]
        return shared

    @checks_arguments
    def load(self, role: str, name: str) -> Any:
        """Import a component and return it: a class, or a function. The caller builds it.

        Raises:
            UnknownComponentError, AmbiguousComponentError: as `find`.
            ComponentLoadError: its module or a required library cannot be imported, or the module lacks it.
        """
        offer = self.find(role, name)
        module_name, _, inside = offer.component.path.partition(":")
        try:
            thing: Any = importlib.import_module(module_name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin's module may raise anything; the error names the plugin
            raise ComponentLoadError(explain.not_loadable(offer, module_name, error)) from error
        for attribute in inside.split("."):
            try:
                thing = getattr(thing, attribute)
            except AttributeError as error:
                close = nearest(attribute, dir(thing))
                advice = f"did its author mean {close[0]!r}?" if close else f"write to the authors of {offer.plugin}"
                problem = f"{offer.title} leads to {offer.component.path!r}, and there is no {attribute!r}; {advice}"
                raise ComponentLoadError(problem) from error
        if not callable(thing):
            raise ComponentLoadError(
                f"{offer.title} leads to {offer.component.path!r}, which is a {type(thing).__name__} and neither a "
                f"class nor a function; write to the authors of {offer.plugin}"
            )
        return thing

    def _preferred(self, offers: list[Offer]) -> list[Offer]:
        for name in self.prefer:
            chosen = [offer for offer in offers if name in (f"{offer.plugin}:", offer.qualified)]
            if chosen:
                return chosen
        return offers


def _normalised(name: str) -> str:
    """Return a component's name, with its plugin's name, if any, as package indexes spell it."""
    if not isinstance(name, str):
        raise ConfigError(f"component {name!r}: write its name as text, as in 'npy' or 'penstock-npy:npy'")
    plugin, colon, short = name.strip().rpartition(":")
    return f"{normalised(plugin)}{colon}{short.strip()}"


def _without_repeats(report: PluginReport, before: Iterable[PluginReport]) -> PluginReport:
    """Return the report, broken if another entry point of the same distribution offers one of its names."""
    for other in before:
        if other.name != report.name or other.status != "ok" or report.status != "ok":
            continue
        for role, components in report.components.items():
            shared = {c.name for c in components} & {c.name for c in other.components.get(role, ())}
            if shared:
                return attrs.evolve(
                    report,
                    status="broken",
                    components={},
                    reason=f"its entry points {other.entry!r} and {report.entry!r} both offer {role} "
                    f"{min(shared)!r}; give each component a name of its own",
                )
    return report


def _summary(report: PluginReport) -> str:
    offers = ", ".join(f"{role} {c.name}" for role, components in report.components.items() for c in components)
    return f"{report.title} ({report.module}): {report.status}; {offers or report.reason or 'offers nothing'}"
