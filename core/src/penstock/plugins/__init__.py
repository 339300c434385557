"""Finding plugins: what is installed, what works, what each offers, and why something does not.

`Plugins.discover()` gives a value, not a registry: two may exist side by side, and a test makes its own.
"""

from penstock.plugins.found import Plugins
from penstock.plugins.report import Offer, PluginReport

__all__ = ["Offer", "PluginReport", "Plugins"]
