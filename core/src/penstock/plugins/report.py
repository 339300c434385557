"""What is known of a plugin after it was looked at, and one thing that it offers."""

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
    """Say of one plugin whether it works, why not, and what it offers.

    Attributes:
        name: The distribution that it came in, spelled as package indexes do ("penstock-npy").
        version: The version of the distribution; "" if its metadata names none.
        status: "ok"; "left out" by the user or by another copy of it; "incompatible" with this penstock, and not
            imported; or "broken".
        reason: One sentence that says what is wrong and what to do; of an "ok" plugin, "" or a remark (slow import).
        entry: The name of its entry point.
        module: The module that its entry point names.
        location: The directory that it is installed in.
        components: What it offers, by role, in the order in which it offers them; empty unless "ok".
        import_s: Seconds that importing its hooks took; 0.0 if it was not imported, or had been already.
        traceback: The traceback of what it raised, or "".
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
    """Name one component together with the plugin that offers it.

    Attributes:
        plugin: The distribution ("penstock-npy").
        version: Its version.
        role: "source", "decoder", "processor" or "store".
        component: What the plugin says of it.
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
        """Return how messages name it, "store 'npy' (penstock-npy 0.1.0)"."""
        return f"{self.role} {self.component.name!r} ({f'{self.plugin} {self.version}'.strip()})"
