"""The components that the plugin lists exist, and listing them is cheap."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import penstock_kafka_av
from penstock_kafka_av import hooks

OFFERED = [
    *hooks.penstock_sources(),
    *hooks.penstock_decoders(),
    *hooks.penstock_processors(),
]


@pytest.mark.parametrize("component", OFFERED, ids=lambda component: component.name)
def test_every_component_can_be_imported(component):
    """Its path leads to a class that takes and gives the declared kinds of data."""
    module, name = component.path.split(":")
    found = getattr(importlib.import_module(module), name)
    assert getattr(found, "takes", component.takes) == component.takes
    assert found.gives == component.gives
    assert component.summary
    assert getattr(penstock_kafka_av, name) is found


def test_listing_is_light():
    """Listing the components in a fresh interpreter imports neither av nor numpy."""
    code = (
        "import sys; from penstock_kafka_av import hooks; "
        "list(hooks.penstock_sources()), list(hooks.penstock_decoders()), list(hooks.penstock_processors()); "
        "print({'av', 'numpy', 'confluent_kafka'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
