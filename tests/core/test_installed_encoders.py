"""Encoders of installed distributions are found by entry point, imported on demand, and never in the way."""

from __future__ import annotations

import sys

import pytest

from penstock.codec.encoders import Encoder, Encoders
from penstock.errors import CannotGetObjectError

MODULE = """
from penstock.codec.encoders import Encoder

class Spike:
    def __init__(self, neuron):
        self.neuron = neuron

spikes = Encoder("lab.spike", Spike, vars, lambda found: Spike(**found))
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution with an encoder, one that cannot be imported, and an object that is not an encoder."""
    (tmp_path / "lab_spikes.py").write_text(MODULE)
    info = tmp_path / "lab_spikes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-spikes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[penstock.encoders]\nlab.spike = lab_spikes:spikes\nlab.broken = lab_nothing:x\nlab.none = lab_spikes:Spike\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("lab_spikes", None)


@pytest.mark.usefixtures("installed")
def test_an_installed_encoder_encodes_and_decodes(caplog):
    """It is used on demand; one that cannot be imported is logged, anything but an encoder is left out."""
    encoders = Encoders()
    assert "lab_spikes" not in sys.modules
    assert encoders.add_installed()
    assert "'lab.broken' of lab-spikes cannot be loaded" in caplog.text
    import lab_spikes

    value, marks = encoders.encode([lab_spikes.Spike(3)])
    assert value == [{"neuron": 3}]
    assert Encoders().decode(value, marks, "it")[0].neuron == 3  # another store, which has not looked


@pytest.mark.usefixtures("installed")
def test_a_registered_encoder_comes_first():
    """An encoder registered under the same name is kept, and asked before installed ones."""
    own = Encoder("lab.spike", int, str, int)
    encoders = Encoders([own])
    encoders.add_installed()
    assert encoders.decode("7", [([], "lab.spike")], "it") == 7


@pytest.mark.usefixtures("installed")
def test_excluded_plugins_bring_no_encoder(monkeypatch):
    """PENSTOCK_WITHOUT excludes the encoders of a distribution, too."""
    monkeypatch.setenv("PENSTOCK_WITHOUT", "Lab_Spikes")
    encoders = Encoders()
    assert not encoders.add_installed()
    with pytest.raises(CannotGetObjectError, match=r"'lab\.spike', which is not registered here"):
        encoders.decode({"neuron": 3}, [([], "lab.spike")], "it")
