"""ExEngine, data processor: a function that writes into the data and the metadata, attached in each way."""

import numpy as np

from penstock import DataHandler, DataProcessor
from penstock.builtin.memory import MemoryStore


def process_function(data_coords, data, metadata):
    """Blacken a corner, and say so."""
    data[:100, :100] = 0
    metadata["new_key"] = "new_value"
    return data_coords, data, metadata


processor = DataProcessor(process_function)
for options in (
    {"process_fn": processor},
    {"process_function": process_function},
    {"process_fn": process_function},
    {"process_function": processor},
):
    storage = MemoryStore()
    image, known = np.ones((200, 200)), {"exposure": 5}
    data_handler = DataHandler(storage, **options)
    data_handler.put({"time": 0}, image, known)
    data, metadata = data_handler.await_data({"time": 0}, processed=True)
    assert data.sum() == 30_000
    assert metadata == {"exposure": 5, "new_key": "new_value"}
    assert image.sum() == 40_000, "the array that was put stays as it was"
    assert known == {"exposure": 5}
    data_handler.close()
