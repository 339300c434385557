"""Names of records: the key of a record, from a template, its coordinates, or a sequence."""

from __future__ import annotations

import json
from typing import Any, Literal

import attrs

from penstock.errors import StoreError
from penstock.record import Record
from penstock.templates import Template

KeyBy = Literal["template", "coordinates", "sequence"]
LONGEST_KEY = 511  # LMDB's, as it is built for Python
_DIGITS = 16


def name_of(record: Record) -> str:
    """Return the name of a record in errors."""
    return f"{record.channel or '(no channel)'}/{record.seq}"


def sequence_key(number: int) -> bytes:
    """Return the key of the record of this number in the sequence."""
    return b"%016d" % number


def coordinates_key(coords: Any) -> str:
    """Return the key of coordinates, the same whatever the order of the axes: 'channel="DAPI"/time=000000000003'."""
    return "/".join(
        f"{axis}={json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f'{value:012d}'}"
        for axis, value in sorted(coords.items())
    )


@attrs.frozen
class Naming:
    """Make keys of records, by a template or by coordinates."""

    where: str
    key_by: KeyBy
    template: Template
    text: str

    def key(self, record: Record) -> bytes:
        """Return the key of a record. Raises StoreError or TemplateError."""
        key = self.template.render(record) if self.key_by == "template" else coordinates_key(record.coords)
        try:
            encoded = key.encode()
        except UnicodeEncodeError as error:
            raise StoreError(
                f"{self.where}: key {key!r} cannot be written as UTF-8: {error}", retryable=False
            ) from error
        if not 0 < len(encoded) <= LONGEST_KEY:
            advice = "set its coordinates, or set key_by to 'template'"
            if self.key_by == "template":
                advice = f"change the key template {self.text!r}"
            raise StoreError(
                f"{self.where}: record {name_of(record)}: its key {key[:60]!r}… has {len(encoded)} bytes, but 1 to "
                f"{LONGEST_KEY} are possible; {advice}",
                retryable=False,
            )
        return encoded


def lookup(key: object) -> bytes:
    """Return the bytes of a key; empty for an invalid key, which is then not found."""
    encoded = key.encode("utf-8", "surrogateescape") if isinstance(key, str) and _is_text(key) else b""
    return encoded if len(encoded) <= LONGEST_KEY else b""


def shown(key: bytes) -> str:
    """Return a key as text; the id of an object may be bytes that are not text."""
    return key.decode("utf-8", "surrogateescape")


def _is_text(key: str) -> bool:
    try:
        key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
