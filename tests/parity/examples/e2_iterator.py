"""ExEngine, DataCoordinatesIterator: one from a list of dicts, and one without end from a generator."""

import itertools

from penstock import DataCoordinatesIterator

finite_iter = DataCoordinatesIterator.create(
    [
        {"time": 0, "channel": "DAPI"},
        {"time": 1, "channel": "DAPI"},
        {"time": 2, "channel": "DAPI"},
    ]
)
assert finite_iter.is_finite()
assert [coords.time for coords in finite_iter] == [0, 1, 2]
assert finite_iter.might_produce_coordinates({"time": 1, "channel": "DAPI"}) is True
assert finite_iter.might_produce_coordinates({"time": 3, "channel": "DAPI"}) is False


def infinite_coords():
    """Count the time up."""
    for i in itertools.count():
        yield {"time": i}


infinite_iter = DataCoordinatesIterator.create(infinite_coords())
assert not infinite_iter.is_finite()
assert [coords.time for coords in itertools.islice(infinite_iter, 3)] == [0, 1, 2]
assert infinite_iter.might_produce_coordinates({"time": 1000}) is None
