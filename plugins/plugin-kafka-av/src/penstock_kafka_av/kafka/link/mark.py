"""Mark: the header of a link's messages, with the producer of the message and the end of its run."""

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
    """The producer of a message, and the message's number.

    Attributes:
        producer: The name of the store, the same after a restart.
        opening: A random number drawn each time the store is opened.
        number: Number of messages that this opening produced before.
        replays: Whether a restart repeats records with the same numbers but different times.
        is_end: Whether the message marks the end of a run that ended in order, and holds no record.
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
            raise CodecError(f"the header {HEADER!r} has version {version}, but this penstock reads version {_VERSION}")
        return cls(producer, opening, number, bool(flags & _REPLAYS), bool(flags & _END))
