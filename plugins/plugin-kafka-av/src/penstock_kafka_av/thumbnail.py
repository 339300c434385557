"""Thumbnail: reduces pictures by an integer factor."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from penstock.arguments import checks_arguments
from penstock.errors import ConfigError
from penstock.record import Record
from penstock.validators import at_least, one_of, or_none


@checks_arguments
@attrs.define(kw_only=True)
class Thumbnail:
    """Reduce pictures by an integer factor.

    Takes numeric arrays (height, width) or (height, width, channels); returns arrays of the same dtype with height and
    width divided by the factor. Incomplete blocks at the right and lower edges are left out. Adds `factor` to the
    metadata. Any other shape raises ValueError. Planar formats ("yuv420p") are not supported.

    Attributes:
        height: Maximum number of rows of the result, 1 or more; the smallest factor that satisfies it is used.
        factor: The factor itself, 1 or more. Set exactly one of `height` and `factor`.
        method: "mean" computes the mean of each block, rounded to nearest for integers; "stride" takes its first
            pixel, which is faster but shows aliasing.
    """

    takes: ClassVar[str] = "array"
    gives: ClassVar[str] = "array"

    height: int | None = attrs.field(default=None, validator=or_none(at_least(1)))
    factor: int | None = attrs.field(default=None, validator=or_none(at_least(1)))
    method: Literal["mean", "stride"] = attrs.field(default="mean", validator=one_of("mean", "stride"))

    def __attrs_post_init__(self) -> None:
        """Check that exactly one of `height` and `factor` is set. Raises ConfigError."""
        if (self.height is None) == (self.factor is None):
            raise ConfigError(f"thumbnail: height={self.height}, factor={self.factor}: give exactly one of the two")

    def __call__(self, record: Record) -> Record:
        """Return the smaller picture as a new array. Raises ValueError for other shapes."""
        picture = np.asarray(record.data)
        if picture.ndim not in (2, 3) or 0 in picture.shape:
            raise ValueError(
                f"thumbnail: record {record.seq} of channel {record.channel!r} has shape {picture.shape}; "
                "it takes pictures (height, width) or (height, width, channels)"
            )
        factor = self.factor or -(-picture.shape[0] // (self.height or 1))
        factor = min(factor, picture.shape[0], picture.shape[1])
        small = picture[::factor, ::factor].copy() if self.method == "stride" else block_mean(picture, factor)
        return record.replace(data=small, metadata={**record.metadata, "factor": factor})


def block_mean(picture: NDArray[Any], factor: int) -> NDArray[Any]:
    """Return the mean of each block of (factor, factor) pixels, as a new array of the same dtype."""
    rows, columns = picture.shape[0] // factor * factor, picture.shape[1] // factor * factor
    whole = picture[:rows, :columns]
    exact = np.issubdtype(picture.dtype, np.integer)
    # uint32 holds the sum of 16-bit pixels for factors up to 256; adding rows first reads memory sequentially
    small = picture.dtype.itemsize <= 2 and factor <= 256 and np.issubdtype(picture.dtype, np.unsignedinteger)
    total: Any = whole[::factor].astype(np.uint32 if small else np.float64)
    for row in range(1, factor):
        total += whole[row::factor]
    total = sum((total[:, column::factor] for column in range(1, factor)), start=total[:, ::factor].copy())
    if small:
        mean = (total + factor * factor // 2) // (factor * factor)
    else:
        mean = np.rint(total / (factor * factor)) if exact else total / (factor * factor)
    return np.asarray(mean.astype(picture.dtype))
