"""Coordinates: the axes and values that locate a record, and sequences of them, finite or not."""

from penstock.coords.coordinates import Coordinates, DataCoordinates, FrozenCoordinatesError
from penstock.coords.iterator import CoordinatesIterator, DataCoordinatesIterator

__all__ = ["Coordinates", "CoordinatesIterator", "DataCoordinates", "DataCoordinatesIterator", "FrozenCoordinatesError"]
