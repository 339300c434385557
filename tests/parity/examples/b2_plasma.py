"""improv, PlasmaStoreInterface: every name of its documentation, used once."""

import warnings

import numpy as np

from penstock.errors import CannotGetObjectError, ObjectNotFoundError
from penstock_shm import PlasmaStoreInterface

store = PlasmaStoreInterface(name="default", store_loc="/tmp/store")
store.connect_store("/tmp/store")
store.subscribe()

frame = np.arange(12.0).reshape(3, 4)
obj_id = store.put(frame, "frame")
assert store.notify() == obj_id
assert np.array_equal(store.get("frame"), frame)
assert np.array_equal(store.getID(obj_id), frame)
assert np.array_equal(store.getID(obj_id, hdd_only=False), frame)

params_id = store.put({"threshold": 3.5, "size": (4, 5)}, "params")
found = store.getList([params_id, obj_id])
assert found[0] == {"threshold": 3.5, "size": (4, 5)}
assert len(store.get_all()) == 2
assert store.getStored() == {"frame": obj_id, "params": params_id}
assert len(store.random_ObjectID(number=2)) == 2

store.replace("params", {"threshold": 4.0})
assert store.get("params") == {"threshold": 4.0}

try:
    store.get("missing")
except CannotGetObjectError:
    pass
else:
    raise AssertionError("an object that nobody put was found")
try:
    store.getID(store.random_ObjectID()[0])
except ObjectNotFoundError:
    pass
else:
    raise AssertionError("an object that nobody put was found")

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    store.updateStoreInterfaced("frame", obj_id)
assert len(caught) == 1

store.reset()
assert np.array_equal(store.get("frame"), frame)
store.delete("params")
assert len(store.get_all()) == 1
store.release()
