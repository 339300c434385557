"""TIFF pictures in videos: removes the tags that do not describe the pixels."""

from __future__ import annotations

import struct

# TIFF 6.0: tags of the baseline and its extensions that describe how pixels are stored
_PICTURE = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 330, 338}
    | {339, 347, 529, 530, 531, 532}
)
_ENTRY_BYTES = 12


def picture_tags_only(data: bytes) -> bytes | None:
    """Return the file with pixel tags only, since a strict decoder rejects others.

    Returns None if there are no others, or if the data are not a TIFF file. Rewrites the directory of the first picture
    in place, so that all offsets in it remain valid.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return None
    (at,) = struct.unpack_from(order + "I", data, 4)
    if at + 2 > len(data):
        return None
    (count,) = struct.unpack_from(order + "H", data, at)
    end = at + 2 + count * _ENTRY_BYTES
    if end > len(data):
        return None
    entries = [data[begin : begin + _ENTRY_BYTES] for begin in range(at + 2, end, _ENTRY_BYTES)]
    kept = [entry for entry in entries if struct.unpack_from(order + "H", entry)[0] in _PICTURE]
    if len(kept) == count:
        return None
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + data[end : end + 4]
    return data[:at] + directory + data[at + len(directory) :]
