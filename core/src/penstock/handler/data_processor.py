"""DataProcessor: a function of (coords, data, metadata) with a setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from penstock.arguments import checks_arguments
from penstock.errors import ConfigError
from penstock.short_text import short
from penstock.user_function import PARTS, form_of


def _takes_parts(_: object, __: object, function: Any) -> None:
    try:
        form = form_of(function) if callable(function) else None
    except TypeError:
        form = None
    if form != PARTS:
        raise ConfigError(f"DataProcessor(function={short(function)}): pass a function of (coords, data, metadata)")


@checks_arguments
@attrs.define
class DataProcessor:
    """Process with a function of `(coords, data, metadata)`, in a `DataHandler` or a pipeline.

    The function itself is also accepted; this class adds a setting, and has the name that users of ExEngine know.

    Attributes:
        function: Returns such a tuple, a list of them, or None to discard or keep for later.
        in_place: Whether it may write into `data`: an array that other nodes hold is then copied. False: such an array
        is
            read-only and not copied. `metadata` is always a private dict.

    Raises:
        ConfigError: `function` is not a function of three arguments.
    """

    function: Callable[[Any, Any, Any], Any] = attrs.field(validator=_takes_parts)
    in_place: bool = attrs.field(default=True, kw_only=True)

    def __call__(self, coords: Any, data: Any, metadata: Any) -> Any:
        """Process one piece of data."""
        return self.function(coords, data, metadata)
