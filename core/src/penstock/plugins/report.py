"""The report of one plugin, and one component that it offers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import attrs

from penstock.component import Component

Status = Literal["ok", "left out", "incompatible", "broken"]


def normalised(name: str) -> str:
    """Return the name of a distribution as package indexes spell it: `Penstock_NPY` becomes `penstock-npy`."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


@attrs.frozen(kw_only=True)
class PluginReport:
    """The report of one plugin: whether it works, why not, and its components.

    Attributes:
        name: Its distribution, spelled as package indexes do ("penstock-npy").
        version: The version of the distribution; "" if its metadata names none.
        status: "ok"; "left out" by the user or by another copy of it; "incompatible" with this penstock, and not
            imported; or "broken".
        reason: One sentence with the problem and the remedy; for an "ok" plugin, "" or a remark (slow import).
        entry: The name of its entry point.
        module: The module that its entry point names.
        location: Its installation directory.
        components: Its components by role, in its order; empty unless "ok".
        import_s: Seconds spent importing its hooks; 0.0 if it was not imported, or was imported before.
        traceback: The traceback of its error, or "".
    """

    name: str
    version: str = ""
    status: Status = "ok"
    reason: str = ""
    entry: str = ""
    module: str = ""
    location: str = ""
    components: Mapping[str, tuple[Component, ...]] = attrs.field(factory=dict)
    import_s: float = 0.0
    traceback: str = attrs.field(default="", repr=False)

    def __repr__(self) -> str:
        offered = sum(map(len, self.components.values()))
        return f"<{self.title}: {self.status}, offers {offered}>"

    @property
    def title(self) -> str:
        """Return the name and version, "penstock-npy 0.1.0"."""
        return f"{self.name} {self.version}".strip()


@attrs.frozen(kw_only=True)
class Offer:
    """One component with the plugin that offers it.

    Attributes:
        plugin: The distribution ("penstock-npy").
        version: Its version.
        role: "source", "decoder", "processor" or "store".
        component: The plugin's description of it.
    """

    plugin: str
    version: str
    role: str
    component: Component

    @property
    def qualified(self) -> str:
        """Return the name that no other plugin can offer, "penstock-npy:npy"."""
        return f"{self.plugin}:{self.component.name}"

    @property
    def title(self) -> str:
        """Return its name in messages, "store 'npy' (penstock-npy 0.1.0)"."""
        return f"{self.role} {self.component.name!r} ({f'{self.plugin} {self.version}'.strip()})"
