"""ataraxis-data-structures, SharedMemoryArray: children that were given the array write into it, forked or spawned."""

import multiprocessing

import numpy as np

from penstock_shm import SharedMemoryArray


def work(array: SharedMemoryArray, index: int) -> None:
    """Connect, add to an element, and disconnect."""
    array.connect()
    for _ in range(100):
        array.add(index, 1)
    array.disconnect()


if __name__ == "__main__":
    for method in ("fork", "spawn"):
        sma = SharedMemoryArray.create_array("counts", np.zeros(2, dtype=np.int64))
        context = multiprocessing.get_context(method)
        children = [context.Process(target=work, args=(sma, index % 2)) for index in range(4)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert sma.read_data(convert_output=True) == [200, 200]
        sma.disconnect()
