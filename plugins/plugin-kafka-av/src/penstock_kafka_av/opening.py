"""Opening: opens the decoders of a channel with its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs
import av
from av.video.codeccontext import VideoCodecContext

from penstock.errors import DecodeError
from penstock_kafka_av.context import open_decoder
from penstock_kafka_av.hardware import Hardware


@attrs.define
class Opening:
    """Open libav decoders, on a device if one is configured and available.

    Attributes:
        threads: Threads of each decoder; 0 uses its share of the process's threads.
        thread_type: Unit of parallel work: slices or frames.
        strict: Whether damage is an error.
        hardware: The devices, or None.
        needs_hardware: Whether a missing device is an error.
    """

    threads: int
    thread_type: Literal["slice", "frame", "auto"]
    strict: bool
    hardware: Hardware | None = None
    needs_hardware: bool = False

    def context(
        self, codec: av.Codec, name: str, *, where: str, share: int, skip_frame: Any, hints: Mapping[str, Any]
    ) -> VideoCodecContext:
        """Return a decoder that is ready for its first packet. Raises DecodeError.

        Args:
            codec: The result of `find_decoder` for the name.
            name: libav's name of the codec.
            where: Description of the packet for which it is opened.
            share: The decoder's share of the process's threads.
            skip_frame: The kind of frames that libav leaves out, or None.
            hints: The codec parameters from the packets' metadata.
        """
        context = None
        if self.hardware is not None:
            context = self.hardware.open(name)
            if context is None and self.needs_hardware:
                raise DecodeError(
                    f"av decoder, {where}: hardware={self.hardware.wanted!r}: {self.hardware.reason}; "
                    "set hardware_missing='software' to decode without it"
                )
            self.hardware.report(where)
        try:
            return open_decoder(
                codec,
                context=context,
                skip_frame=skip_frame,
                threads=self.threads or share,
                thread_type=self.thread_type,
                strict=self.strict,
                hints=hints,
            )
        except (av.FFmpegError, ValueError) as error:
            raise DecodeError(f"av decoder, {where}: cannot open codec {name!r}: {error}") from error
