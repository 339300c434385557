"""ExEngine: its own storage backends, in a handler and in a pipeline."""

import tempfile
import warnings

import numpy as np
from exengine.storage_backends.ndtiff_and_ndram.NDTiffandRAM import NDRAMStorage, NDTiffStorage

import penstock as ps
from penstock import DataHandler

warnings.filterwarnings("ignore", category=ResourceWarning)  # ndstorage 0.1 leaves its writer open

with tempfile.TemporaryDirectory() as directory:
    for number, storage in enumerate([NDRAMStorage(), NDTiffStorage(directory=directory, name="one")]):
        data_handler = DataHandler(storage)
        coords = ps.DataCoordinates(time=1, channel="DAPI", z=number)
        data_handler.put(coords, np.array([[1, 2], [3, 4]], dtype=np.uint16), {"some": "metadata"})
        data, metadata = data_handler.get(coords, return_data=True, return_metadata=True)
        assert data.tolist() == [[1, 2], [3, 4]]
        data, metadata = data_handler.await_data(coords, stored=True)
        assert (data.tolist(), metadata) == ([[1, 2], [3, 4]], {"some": "metadata"})
        assert coords in data_handler
        assert {"time": 2} not in data_handler
        data_handler.finish()
        assert data_handler.get(coords)[0].tolist() == [[1, 2], [3, 4]]
        data_handler.close()

storage = NDRAMStorage()
frames = [ps.Record(np.full((2, 2), z), coords=ps.DataCoordinates(z=z), metadata={"z": z}) for z in range(3)]
ps.Pipeline(ps.source(frames) >> ps.store(storage)).run()
assert storage.get_data({"z": 2}).tolist() == [[2, 2], [2, 2]]
assert storage.get_metadata({"z": 2}) == {"z": 2}
