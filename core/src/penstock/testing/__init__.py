"""For authors of plugins: the contracts as tests to inherit, faults, leak checks and hypothesis strategies.

Needs pytest (`pip install "penstock[testing]"`). Nothing here is imported by penstock itself.
"""

from __future__ import annotations

try:
    import pytest
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'penstock.testing needs {error.name}: `pip install "penstock[testing]"`', name=error.name
    ) from error

# Before they are imported, so that a failing assert in an inherited test shows its values.
pytest.register_assert_rewrite(
    "penstock.testing.component_contract",
    "penstock.testing.decoder_contract",
    "penstock.testing.equality",
    "penstock.testing.processor_contract",
    "penstock.testing.source_contract",
    "penstock.testing.store_abilities",
    "penstock.testing.store_case",
    "penstock.testing.store_contract",
    "penstock.testing.store_durability",
    "penstock.testing.store_keys",
    "penstock.testing.store_model",
)

from penstock.testing.decoder_contract import DecoderContract  # noqa: E402 - after the registration
from penstock.testing.equality import assert_same_data, assert_same_record, assert_unique  # noqa: E402 - after the registration
from penstock.testing.fakes import FakeSource  # noqa: E402 - after the registration
from penstock.testing.faults import (  # noqa: E402 - after the registration
    FaultySource,
    FaultyStore,
    JumpingClock,
    SlowStore,
    permissions_hold,
    raise_nth,
)
from penstock.testing.leaks import leaves_nothing, no_leaks  # noqa: E402 - after the registration
from penstock.testing.processor_contract import ProcessorContract  # noqa: E402 - after the registration
from penstock.testing.source_contract import SourceContract  # noqa: E402 - after the registration
from penstock.testing.store_contract import StoreContract  # noqa: E402 - after the registration

__all__ = [
    "DecoderContract",
    "FakeSource",
    "FaultySource",
    "FaultyStore",
    "JumpingClock",
    "ProcessorContract",
    "SlowStore",
    "SourceContract",
    "StoreContract",
    "assert_same_data",
    "assert_same_record",
    "assert_unique",
    "leaves_nothing",
    "no_leaks",
    "permissions_hold",
    "raise_nth",
]
