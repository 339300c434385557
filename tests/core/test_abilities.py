"""Abilities of components: protocols that a run asks for."""

import importlib
import inspect

import pytest

from penstock.builtin.iterable import IterableSource
from penstock.builtin.memory import MemoryStore
from penstock.component import supports

MODULES = [
    importlib.import_module(f"penstock.{each}") for each in ("component", "decoder", "processor", "source", "store")
]
ABILITIES = {
    name: ability for module in MODULES for name, ability in vars(module).items() if name.startswith("Supports")
}

SPECIAL = ("__len__", "__contains__", "__iter__")


class Bare:
    """A component without any ability."""


class OfItsOwn:
    """A component that gets a method when it is made."""

    def __init__(self):
        self.wake = lambda: None


class Half:
    """A component with one of two methods, and one that it does not have after all."""

    wake = None

    def position(self):
        return 0


def whole(ability):
    """Return a component with all that an ability consists of."""
    members = [
        name
        for name in (*vars(ability), *inspect.get_annotations(ability))
        if name.strip("_") == name or name in SPECIAL
    ]
    return type("Whole", (), {name: vars(ability).get(name, {}) for name in members})()


@pytest.mark.parametrize("ability", ABILITIES.values(), ids=ABILITIES)
def test_a_component_supports_what_it_is_an_instance_of(ability):
    """The quick question has the answer of isinstance, for any component and ability."""
    for component in (Bare(), OfItsOwn(), Half(), IterableSource(items=()), MemoryStore(), whole(ability)):
        assert supports(component, ability) == isinstance(component, ability)
    assert supports(whole(ability), ability)
