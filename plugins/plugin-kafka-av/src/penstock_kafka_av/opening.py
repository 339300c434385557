"""Opening: how the decoders of a channel are opened, whenever one is needed."""

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
    """Open decoders of libav, on a device where one is wanted and there.

    Attributes:
        threads: Of each decoder; 0 takes its share of those of the process.
        thread_type: What they share.
        strict: Whether damage is an error.
        hardware: The devices, or None.
        needs_hardware: Whether it is an error if there is none.
    """

    threads: int
    thread_type: Literal["slice", "frame", "auto"]
    strict: bool
    hardware: Hardware | None = None
    needs_hardware: bool = False

    def context(
        self, codec: av.Codec, name: str, *, where: str, share: int, skip_frame: Any, hints: Mapping[str, Any]
    ) -> VideoCodecContext:
        """Return a decoder that waits for its first packet. Raises DecodeError.

        Args:
            codec: What `find_decoder` gave for the name.
            name: libav's name.
            where: The packet that it is opened for.
            share: The threads of this process that are its own.
            skip_frame: Pictures that libav leaves out, or None.
            hints: What came with the packets.
        """
        context = None
        if self.hardware is not None:
            context = self.hardware.open(name)
            if context is None and self.needs_hardware:
                raise DecodeError(
                    f"av decoder, {where}: hardware={self.hardware.wanted!r}: {self.hardware.reason}; "
                    "hardware_missing='software' decodes without"
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
