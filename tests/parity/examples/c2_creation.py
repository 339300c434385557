"""ataraxis-data-structures, SharedMemoryArray: make an array, look at what it is, and destroy it."""

import numpy as np

from penstock_shm import SharedMemoryArray

prototype = np.array([1, 2, 3, 4, 5, 6], dtype=np.uint64)
buffer_name = "unique_buffer"

sma = SharedMemoryArray.create_array(name=buffer_name, prototype=prototype, exist_ok=True)

assert sma.name == buffer_name
assert sma.shape == prototype.shape
assert sma.datatype == prototype.dtype

sma.disconnect()
sma.destroy()
