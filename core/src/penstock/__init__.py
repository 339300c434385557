"""penstock carries data from instruments and cameras through decoders and processors into archives."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# The modules of the contracts are imported before the functions of the same names below: a module that is loaded later
# would take the place of the function in this namespace.
from penstock import decoder as _decoder  # noqa: F401 - see above
from penstock import errors
from penstock import processor as _processor  # noqa: F401 - see above
from penstock import source as _source  # noqa: F401 - see above
from penstock import store as _store  # noqa: F401 - see above
from penstock.compose.edge_factory import edge
from penstock.compose.factories import decoder, processor, source, store
from penstock.compose.node import Edge, Flow, Node
from penstock.compose.policies import Block, DropNewest, DropOldest, Latest, Sample, Spill
from penstock.compose.retry import Retry
from penstock.coords import Coordinates, CoordinatesIterator, DataCoordinates, DataCoordinatesIterator
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from penstock.component import Component
    from penstock.compose.pipeline import Pipeline
    from penstock.config import YamlConfig
    from penstock.handler import DataHandler, DataProcessor
    from penstock.hookspecs import hookimpl
    from penstock.plugins import Plugins
    from penstock.record import Record
    from penstock.report.run_report import RunReport
    from penstock.run.control import control
    from penstock.run.run import Run

_LAZY = {
    "Component": "penstock.component",
    "DataHandler": "penstock.handler",
    "DataProcessor": "penstock.handler",
    "Pipeline": "penstock.compose.pipeline",
    "Plugins": "penstock.plugins",
    "Record": "penstock.record",
    "Run": "penstock.run.run",
    "RunReport": "penstock.report.run_report",
    "YamlConfig": "penstock.config",
    "control": "penstock.run.control",
    "hookimpl": "penstock.hookspecs",
}
"""The modules of public names that are imported on first use, so that `import penstock` stays light."""

__all__ = [
    "Block",
    "Component",
    "Coordinates",
    "CoordinatesIterator",
    "DataCoordinates",
    "DataCoordinatesIterator",
    "DataHandler",
    "DataProcessor",
    "DropNewest",
    "DropOldest",
    "Edge",
    "Flow",
    "Latest",
    "Node",
    "PenstockError",
    "Pipeline",
    "Plugins",
    "Record",
    "Retry",
    "Run",
    "RunReport",
    "Sample",
    "Spill",
    "YamlConfig",
    "control",
    "decoder",
    "edge",
    "errors",
    "hookimpl",
    "processor",
    "source",
    "store",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
