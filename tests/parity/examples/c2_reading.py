"""ataraxis-data-structures, SharedMemoryArray: read an element and a slice."""

import numpy as np

from penstock_shm import SharedMemoryArray

prototype = np.array([1, 2, 3, 4, 5, 6], dtype=np.uint64)
buffer_name = "unique_buffer"
sma = SharedMemoryArray.create_array(name=buffer_name, prototype=prototype)
sma.connect()

output = sma.read_data(index=2)
assert output == np.uint64(3)
assert isinstance(output, np.uint64)

output = sma.read_data(index=(1, 4), convert_output=False, with_lock=False)
assert np.array_equal(output, np.array([2, 3, 4], dtype=np.uint64))
assert isinstance(output, np.ndarray)
