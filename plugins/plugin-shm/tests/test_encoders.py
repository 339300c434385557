"""B2: objects of types that bytes do not know are kept by encoders that have a name."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from penstock.codec.encoders import Encoders
from penstock.errors import CannotGetObjectError, CodecError, ConfigError
from penstock.record import Record
from penstock_shm import Encoder, ShmObjectStore


@attrs.frozen
class Spot:
    """A type that only its users know."""

    x: int
    weights: object


SPOT = Encoder("lab.spot", Spot, lambda spot: {"x": spot.x, "weights": spot.weights}, lambda found: Spot(**found))


@pytest.fixture
def store():
    store = ShmObjectStore("encoded", encoders=[SPOT])
    store.open()
    yield store
    store.destroy()


@pytest.mark.parametrize("kind", ["matrix", "array"])
@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo", "dia", "lil", "dok"])
def test_b2_sparse_matrices_come_back(store, form, kind):
    """A sparse matrix or array of any format is read back with its class, type, shape and values."""
    sparse = pytest.importorskip("scipy.sparse", reason="penstock-shm works without scipy")
    dense = np.array([[0, 0, 3], [4, 0, 0]], dtype=np.float32)
    put = getattr(sparse, f"{form}_{kind}")(dense)
    found = store.get(store.put(put))
    assert type(found) is type(put)
    assert (found.dtype, found.shape) == (put.dtype, put.shape)
    assert np.array_equal(found.toarray(), dense)


def test_b2_types_of_ones_own_come_back_from_wherever_they_are(store):
    """A registered type is kept alone, within containers and records, and within other encoded objects."""
    inner = Spot(1, Spot(8, np.eye(2)))
    put = {"spots": [Spot(2, np.arange(3)), (inner, "text")], 7: Spot(3, None), "plain": (1, [2])}
    found = store.get(store.put(put))
    assert found["plain"] == (1, [2])
    assert found[7] == Spot(3, None)
    assert found["spots"][0].x == 2
    assert found["spots"][0].weights.tolist() == [0, 1, 2]
    assert found["spots"][1][1] == "text"
    assert found["spots"][1][0].weights.weights.tolist() == [[1, 0], [0, 1]]
    assert put[7] == Spot(3, None), "what was put is not changed"
    store.write([Record([Spot(4, None)], channel="spots")])
    assert store.get("spots/0").data == [Spot(4, None)]


def test_b2_an_encoder_is_needed_on_both_sides(store):
    """Without the encoder an object can be neither put nor read by others; both errors name the encoder or type."""
    key = store.put(Spot(5, None))
    other = ShmObjectStore("encoded", create=False)
    other.open()
    with pytest.raises(CodecError, match="Spot cannot be written as bytes"):
        other.put(Spot(6, None))
    with pytest.raises(CannotGetObjectError, match=r"encoder 'lab\.spot', which is not registered here"):
        other.get(key)
    other.register(SPOT)
    assert other.get(key) == Spot(5, None)
    other.close()


def test_b2_encoders_that_fail_cost_one_object(store):
    """An encoder that raises when it decodes costs that object; two of one name are refused."""
    store.register(Encoder("lab.broken", lambda value: value == {1, 2}, list, lambda found: found["missing"]))
    key = store.put([{1, 2}])
    with pytest.raises(CannotGetObjectError, match=r"encoder 'lab\.broken' cannot decode it"):
        store.get(key)
    with pytest.raises(ConfigError, match=r"'lab\.spot': another one of this name"):
        store.register(Encoder("lab.spot", int, str, int))
    with pytest.raises(ConfigError, match=r"must hold an Encoder\(\.\.\.\), not 'lab\.spot'"):
        Encoders(["lab.spot"])
    with pytest.raises(ConfigError, match=r"must be an Encoder, not str"):
        store.register("lab.spot")
    store.register(SPOT)


def test_b2_any_number_of_encoded_objects(store):
    """As many objects as one likes are encoded within one; an encoder that encodes nothing is refused, not followed."""
    found = store.get(store.put([Spot(number, None) for number in range(12_000)]))
    assert [spot.x for spot in found] == list(range(12_000))
    store.register(Encoder("lab.same", range, lambda value: value, lambda found: found))
    with pytest.raises(CodecError, match="range cannot be written as bytes"):
        store.put([range(3)])
