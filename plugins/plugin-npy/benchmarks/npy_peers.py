"""What peers do in bench_npy.py, run by an interpreter that has them: acquire-zarr 0.10, ataraxis-data-structures 7.2.

Each action prints the seconds it took.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np


def log(directory: str, count: str, size: str) -> float:
    """Log `count` entries of `size` bytes from each of two processes; until all are on the disk."""
    from ataraxis_data_structures import DataLogger

    logger = DataLogger(Path(directory), "bench")
    logger.start()
    barrier = multiprocessing.Barrier(3)
    arguments = (logger.input_queue, barrier, int(count), int(size))
    producers = [multiprocessing.Process(target=_put, args=(*arguments, source)) for source in (1, 2)]
    for producer in producers:
        producer.start()
    barrier.wait()
    began_s = time.perf_counter()
    for producer in producers:
        producer.join()
    logger.stop()
    return time.perf_counter() - began_s


def _put(queue, barrier, count: int, size: int, source: int) -> None:  # noqa: ANN001 - of another library
    from ataraxis_data_structures import LogPackage

    data = np.zeros(size, np.uint8)
    identity = np.uint8(source)
    barrier.wait()
    for number in range(count):
        queue.put(LogPackage(identity, np.uint64(number), data))


def assemble(directory: str) -> float:
    """Gather the entries of a directory in archives, checked, sources kept."""
    from ataraxis_data_structures import assemble_log_archives

    began_s = time.perf_counter()
    assemble_log_archives(Path(directory), max_workers=1, remove_sources=False, verify_integrity=True)
    return time.perf_counter() - began_s


def stream(directory: str, count: str, side: str) -> float:
    """Append `count` frames of side x side uint16 to a zarr."""
    import acquire_zarr as aqz

    side_px, frames = int(side), int(count)
    frame = np.zeros((side_px, side_px), np.uint16)
    chunk = max(1, (4 << 20) // frame.nbytes)
    settings = aqz.StreamSettings(
        store_path=directory,
        arrays=[
            aqz.ArraySettings(
                output_key="a",
                data_type=aqz.DataType.UINT16,
                dimensions=[
                    aqz.Dimension(
                        name="t", kind=aqz.DimensionType.TIME, array_size_px=0, chunk_size_px=chunk, shard_size_chunks=1
                    ),
                    aqz.Dimension(
                        name="y", kind=aqz.DimensionType.SPACE, array_size_px=side_px, chunk_size_px=side_px,
                        shard_size_chunks=1,
                    ),
                    aqz.Dimension(
                        name="x", kind=aqz.DimensionType.SPACE, array_size_px=side_px, chunk_size_px=side_px,
                        shard_size_chunks=1,
                    ),
                ],
            )
        ],
    )  # fmt: skip
    zarr = aqz.ZarrStream(settings)
    batch = np.zeros((64, side_px, side_px), np.uint16)
    began_s = time.perf_counter()
    for _ in range(frames // 64):
        zarr.append(batch)
    zarr.close()
    return time.perf_counter() - began_s


if __name__ == "__main__":
    print({"log": log, "assemble": assemble, "stream": stream}[sys.argv[1]](*sys.argv[2:]))
