"""ExEngine, DataCoordinates: make coordinates, look at them in both ways, add an axis, use them as a dict."""

from penstock import DataCoordinates

coords = DataCoordinates(time=3, channel="DAPI", z=5)

assert coords.time == 3
assert coords["channel"] == "DAPI"

coords.position = 2

coord_dict = dict(coords)
assert coord_dict == {"time": 3, "channel": "DAPI", "z": 5, "position": 2}
assert list(coord_dict) == ["time", "channel", "z", "position"]
