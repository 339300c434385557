"""Find plugins: which are installed, which work and offer components, and why others fail.

`Plugins.discover()` returns a value, not a registry: several may coexist, and a test makes its own.
"""

from penstock.plugins.found import Plugins
from penstock.plugins.report import Offer, PluginReport

__all__ = ["Offer", "PluginReport", "Plugins"]
