"""BackgroundDifference: the distance of each pixel from the running mean of its channel."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from penstock.arguments import checks_arguments
from penstock.errors import ConfigError
from penstock.record import Record
from penstock.short_text import short
from penstock.validators import at_least, one_of, positive


def _fraction(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    positive(_, field, value)
    if value > 1:
        raise ConfigError(f"{field.name}={short(value)}: must be above 0, and 1 at most")


def _from_zero(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value != 0:
        positive(_, field, value)


@checks_arguments
@attrs.define(kw_only=True)
class BackgroundDifference:
    """Compare each picture with the running mean of the earlier pictures of its channel.

    Takes arrays of any shape, uint8 or other real dtypes. The first picture of a channel, and the first after a
    `discontinuity` or a change of shape or dtype, is its own background. Adds `motion` to the metadata: the share of
    values, 0 to 1, that differ from the mean by more than `threshold`. Keeps three float32 arrays per channel, each of
    the picture's shape. It needs every picture of a channel in order, so give it one worker.

    Attributes:
        rate: Weight of the newest picture in the mean, above 0 and up to 1.
        threshold: Difference that counts as motion, in the unit of the pixels, 0 or more.
        output: "difference" returns the absolute difference as a new array in the dtype of the pictures, rounded down
            for integers; "score" returns the unchanged picture, with `motion`.
        max_channels: Number of channels to keep a mean for; beyond it, the least recently seen one is forgotten.
    """

    takes: ClassVar[str] = "array"
    gives: ClassVar[str] = "array"

    rate: float = attrs.field(default=0.05, validator=_fraction)
    threshold: float = attrs.field(default=25.0, validator=_from_zero)
    output: Literal["difference", "score"] = attrs.field(default="difference", validator=one_of("difference", "score"))
    max_channels: int = attrs.field(default=256, validator=at_least(1))

    _channels: OrderedDict[str, _Background] = attrs.field(factory=OrderedDict, init=False, eq=False, repr=False)

    def open(self) -> None:
        """Begin with no background."""
        self._channels.clear()

    def close(self) -> None:
        """Forget all backgrounds."""
        self._channels.clear()

    def __call__(self, record: Record) -> Record:
        """Return the difference or the picture, with `motion`."""
        picture = np.asarray(record.data)
        background = self._channels.get(record.channel)
        if background is None or record.discontinuity or not background.fits(picture):
            background = self._channels[record.channel] = _Background.of(picture)
            if len(self._channels) > self.max_channels:
                self._channels.popitem(last=False)
        self._channels.move_to_end(record.channel)
        difference = background.take(picture, self.rate)
        motion = float(np.count_nonzero(difference > self.threshold)) / max(1, difference.size)
        data = difference.astype(picture.dtype) if self.output == "difference" else record.data
        return record.replace(data=data, metadata={**record.metadata, "motion": motion})


@checks_arguments
@attrs.define
class _Background:
    dtype: np.dtype[Any]
    mean: NDArray[np.float32]
    signed: NDArray[np.float32]  # scratch arrays: allocating them for each picture costs as much as the arithmetic
    absolute: NDArray[np.float32]

    @classmethod
    def of(cls, picture: NDArray[Any]) -> _Background:
        mean = picture.astype(np.float32)
        return cls(picture.dtype, mean, np.empty_like(mean), np.empty_like(mean))

    def fits(self, picture: NDArray[Any]) -> bool:
        return self.mean.shape == picture.shape and self.dtype == picture.dtype

    def take(self, picture: NDArray[Any], rate: float) -> NDArray[np.float32]:
        """Return the absolute difference from the mean, valid until the next call, and move the mean to the picture."""
        np.subtract(picture, self.mean, out=self.signed, dtype=np.float32)
        np.abs(self.signed, out=self.absolute)
        self.signed *= rate
        self.mean += self.signed
        return self.absolute
