"""ExEngine, DataHandler: a storage, an event that produces data for the handler, and get."""

import numpy as np

from penstock import DataCoordinates, DataHandler
from penstock.builtin.memory import MemoryStore


class SnapEvent:
    """What an engine would run: it produces one image and hands it to its handler."""

    def __init__(self, data_handler):
        self.data_handler = data_handler

    def execute(self):
        """Snap."""
        self.data_handler.put(DataCoordinates(time=0, channel="DAPI"), np.ones((4, 4)), {"exposure": 5})


storage = MemoryStore()
data_handler = DataHandler(storage)
data_producing_event = SnapEvent(data_handler=data_handler)
data_producing_event.execute()

coords = DataCoordinates(time=0, channel="DAPI")
data, metadata = data_handler.get(coords, return_data=True, return_metadata=True)
assert data.sum() == 16
assert metadata == {"exposure": 5}
data_handler.close()
