"""ExEngine, data processor: two images for one; and images that are collected on the function itself."""

import numpy as np

from penstock import DataHandler
from penstock.builtin.memory import MemoryStore


def multi_output_process(coords, data, metadata):
    """Give the image twice."""
    data2 = np.array(data, copy=True)
    metadata2 = metadata.copy()
    metadata2["Channel"] = "New_Channel"
    return [(coords, data, metadata), (coords, data2, metadata2)]


def batch_process(coords, data, metadata):
    """Collect ten images, and stack them."""
    if not hasattr(batch_process, "images"):
        batch_process.images = []
    batch_process.images.append(data)
    if len(batch_process.images) == 10:
        combined = np.stack(batch_process.images, axis=0)
        assert combined.shape == (10, 4, 4)
        batch_process.images = []
    return coords, data, metadata


storage = MemoryStore()
data_handler = DataHandler(storage, multi_output_process)
data_handler.put({"time": 0}, np.ones((4, 4)), {"Channel": "Old_Channel"})
assert data_handler.finish().ok
assert [storage.get(key).metadata["Channel"] for key in list(storage.keys())] == ["Old_Channel", "New_Channel"]
assert data_handler.get({"time": 0})[1] == {"Channel": "New_Channel"}, "the last one is what the coordinates mean"
data_handler.close()

storage = MemoryStore()
data_handler = DataHandler(storage, batch_process)
for time in range(25):
    data_handler.put({"time": time}, np.full((4, 4), time), {})
assert data_handler.finish().ok
assert len(storage) == 25
assert len(batch_process.images) == 5
data_handler.close()
