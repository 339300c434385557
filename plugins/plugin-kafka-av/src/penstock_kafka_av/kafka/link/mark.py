"""Mark: the header by which a link knows the producer of a message, and the end of its run."""

from __future__ import annotations

import struct
from typing import Final

import attrs

from penstock.errors import CodecError

HEADER: Final = "penstock-link"
_FORM: Final = struct.Struct(">BBQQ")
_VERSION: Final = 1
_REPLAYS, _END = 1, 2


@attrs.frozen
class Mark:
    """Who produced a message.

    Attributes:
        producer: The name of the store, the same after a restart.
        opening: A number drawn each time that the store is opened.
        number: How many messages this opening had produced before.
        replays: After a restart the same records come again with the same numbers, though with other times.
        is_end: No record, but the end of a run that ended in order.
    """

    producer: str
    opening: int
    number: int
    replays: bool = False
    is_end: bool = False

    def to_bytes(self) -> bytes:
        """Return the header's value: version, flags, opening, number, and the name as UTF-8."""
        flags = _REPLAYS * self.replays | _END * self.is_end
        return _FORM.pack(_VERSION, flags, self.opening, self.number) + self.producer.encode()

    @classmethod
    def of(cls, value: bytes) -> Mark:
        """Read a header's value. Raises CodecError."""
        try:
            version, flags, opening, number = _FORM.unpack_from(value)
            producer = value[_FORM.size :].decode()
        except (struct.error, UnicodeDecodeError) as error:
            raise CodecError(f"the header {HEADER!r} is damaged: {error}") from error
        if version != _VERSION:
            raise CodecError(f"the header {HEADER!r} has version {version}, and this penstock reads {_VERSION}")
        return cls(producer, opening, number, bool(flags & _REPLAYS), bool(flags & _END))
