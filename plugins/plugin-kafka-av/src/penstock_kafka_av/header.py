"""A stream's display matrix, which PyAV does not expose: read from a MOV header that libav writes."""

from __future__ import annotations

import io
import struct

import av
from av.video.stream import VideoStream

from penstock_kafka_av.display import Matrix

_IDENTITY: Matrix = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


def matrix_in_header(stream: VideoStream) -> Matrix | None:
    """Return the display matrix of a stream, or None if it is the identity.

    Raises:
        FFmpegError, ValueError: libav cannot write a MOV file of this codec.
    """
    memory = io.BytesIO()
    options = {"movflags": "empty_moov+frag_keyframe", "strict": "-2"}
    with av.open(memory, "w", format="mov", options=options) as container:
        container.add_stream_from_template(stream)
        container.start_encoding()
    data = memory.getvalue()
    track = data.find(b"tkhd") + 4  # ISO/IEC 14496-12, 8.3.2
    if track < 4:
        return None
    at = track + 4 + (32 if data[track] else 20) + 16
    matrix = struct.unpack_from(">9i", data, at)
    return None if matrix == _IDENTITY else matrix
