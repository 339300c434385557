"""An LMDB data file on the disk: whether it is complete, checked by reading it without mapping it.

LMDB trusts its file: a page beyond the end of the file, or a page number out of range, kills the process by
SIGBUS or SIGSEGV. So a file is checked before it is mapped. The layout is that of LMDB 0.9 (data version 1), as
its `mdb.c` describes it: two meta pages, of which the one with the higher transaction counts, then B+tree pages.
"""

from __future__ import annotations

import os
import stat
import struct
from collections import deque
from pathlib import Path
from typing import BinaryIO

import attrs

MAGIC = 0xBEEFC0DE
_VERSION = 1
_META = struct.Struct("<QHHHHIIQQ")  # page number, pad, flags, lower, upper; magic, version, address, map size
_TREE = struct.Struct("<IHHQQQQQ")  # pad (of the first tree: the page size), flags, depth, three counts, entries, root
_TAIL = struct.Struct("<QQ")  # last page, transaction
_PAGE = struct.Struct("<QHHHH")
_NODE = struct.Struct("<HHHH")
_HEADER_BYTES = 16
_META_BYTES = 152
_BRANCH, _LEAF, _OVERFLOW, _LEAF2 = 1, 2, 4, 0x20
_BIG, _SUBTREE = 1, 2
_NONE = (1 << 64) - 1
_AT_OPEN = 256
_ATTEMPTS = 5
_SHOWN = 20


@attrs.frozen
class Meta:
    """The newer meta page: size of a page in bytes, last page, number of the transaction, roots of trees."""

    page_size: int
    last_page: int
    transaction: int
    roots: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """The least size of the file in bytes."""
        return (self.last_page + 1) * self.page_size


def read_meta(file: BinaryIO) -> Meta | str:
    """Return the newer of the two meta pages, or the reason why there is none."""
    first = os.pread(file.fileno(), _META_BYTES, 0)
    if len(first) < _META_BYTES:
        return f"it has {len(first)} bytes, fewer than a header"
    if _META.unpack_from(first)[5] != MAGIC:
        return "it does not begin as an LMDB file does"
    if (version := _META.unpack_from(first)[6]) != _VERSION:
        return f"its layout has version {version}; version {_VERSION} can be read"
    page_size = _TREE.unpack_from(first, 40)[0]
    if not 256 <= page_size <= 65536 or page_size & (page_size - 1):
        return f"its header gives pages of {page_size} bytes"
    found: list[Meta] = []
    for raw in (first, os.pread(file.fileno(), _META_BYTES, page_size)):
        if len(raw) == _META_BYTES and _META.unpack_from(raw)[5] == MAGIC:
            last, transaction = _TAIL.unpack_from(raw, 136)
            roots = (_TREE.unpack_from(raw, 40)[7], _TREE.unpack_from(raw, 88)[7])
            found.append(Meta(page_size, last, transaction, tuple(root for root in roots if root != _NONE)))
    if len(found) < 2:
        return "its second header is missing or damaged"
    return max(found, key=lambda meta: meta.transaction)


def find_damage(path: Path, *, most_pages: int | None = _AT_OPEN) -> list[str]:
    """Return the problems of a data file; empty if it is complete, or if there is no file or an empty one.

    Args:
        path: The data file itself.
        most_pages: The number of pages of its trees that are checked, those next to the roots first; None for all.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            return ["it is not a regular file"]
        with open(path, "rb", buffering=0) as file:
            if not os.fstat(file.fileno()).st_size:
                return []
            return _find_damage(file, most_pages)
    except FileNotFoundError:
        return []


def _find_damage(file: BinaryIO, most_pages: int | None) -> list[str]:
    problems: list[str] = []
    before = -1
    for _ in range(_ATTEMPTS):
        meta = read_meta(file)
        if isinstance(meta, str):
            return [meta]
        if meta.transaction == before:
            break  # it did not change while it was checked: the findings are valid
        before = meta.transaction
        size = os.fstat(file.fileno()).st_size
        if size < meta.size_bytes:
            problems = [f"it has {size} bytes of {meta.size_bytes}: it was copied or written only in part"]
        else:
            problems = _Walk(file, meta, large=most_pages is None).problems(most_pages)
        if not problems:
            break
    return problems


@attrs.define
class _Walk:
    """Follow the trees of a file from their roots."""

    file: BinaryIO
    meta: Meta
    large: bool  # check the pages of large values, too, of which there may be very many

    def problems(self, most_pages: int | None) -> list[str]:
        """Return the problems of the pages that are reached."""
        found: list[str] = []
        waiting = deque(self.meta.roots)
        seen: set[int] = set()
        while waiting and len(found) < _SHOWN and (most_pages is None or len(seen) < most_pages):
            number = waiting.popleft()
            if number in seen:
                found.append(f"page {number} is referred to twice")
                continue
            seen.add(number)
            try:
                waiting.extend(self._children(number))
            except ValueError as error:
                found.append(str(error))
            except struct.error:
                found.append(f"page {number} is damaged")
        return found

    def _children(self, number: int) -> list[int]:
        self._check_range(number, 1)
        raw = os.pread(self.file.fileno(), self.meta.page_size, number * self.meta.page_size)
        own, _, flags, lower, upper = _PAGE.unpack_from(raw)
        if own != number or not flags & (_BRANCH | _LEAF) or not _HEADER_BYTES <= lower <= upper <= len(raw):
            raise ValueError(f"page {number} is damaged")
        if flags & _LEAF2:
            return []
        children: list[int] = []
        for offset in struct.unpack_from(f"<{(lower - _HEADER_BYTES) // 2}H", raw, _HEADER_BYTES):
            low, high, kind, key_size = _NODE.unpack_from(raw, offset)
            data = offset + _NODE.size + key_size
            if offset < lower or data > len(raw):
                raise ValueError(f"page {number} is damaged: a key is outside of it")
            if flags & _BRANCH:
                children.append(low | high << 16 | kind << 32)
            elif kind & _SUBTREE:
                root = _TREE.unpack_from(raw, data)[7]
                if root != _NONE:
                    children.append(root)
            elif kind & _BIG:
                self._check_overflow(struct.unpack_from("<Q", raw, data)[0], low | high << 16)
            elif data + (low | high << 16) > len(raw):
                raise ValueError(f"page {number} is damaged: a value is outside of it")
        return children

    def _check_overflow(self, number: int, size: int) -> None:
        pages = (_HEADER_BYTES + size + self.meta.page_size - 1) // self.meta.page_size
        self._check_range(number, pages)
        if not self.large:
            return
        head = os.pread(self.file.fileno(), _HEADER_BYTES, number * self.meta.page_size)
        own, _, flags, count = struct.unpack("<QHHI", head)
        if own != number or not flags & _OVERFLOW or count < pages:
            raise ValueError(f"page {number}, which holds a large value, is damaged")

    def _check_range(self, number: int, pages: int) -> None:
        if not 2 <= number <= number + pages - 1 <= self.meta.last_page:
            raise ValueError(f"page {number} is referred to, but the last one is {self.meta.last_page}")
