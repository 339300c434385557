"""Hardware: opens decoders on the devices that this libav and this machine support."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import av
from av.codec import hwaccel
from av.video.codeccontext import VideoCodecContext

from penstock.errors import ConfigError
from penstock.short_text import short
from penstock.suggestions import close_to

_log = logging.getLogger(__name__)
AUTO = "auto"


def kinds() -> list[str]:
    """Return the names of all kinds of devices that libav defines, including those that this build lacks."""
    return [each for each in hwaccel.HWDeviceType.__members__ if each != "none"]


def check_hardware(_: object, __: object, value: Any) -> None:
    """Raise ConfigError unless the value is None, "auto" or a kind of device."""
    if value is None or value == AUTO:
        return
    if not isinstance(value, str) or value.partition(":")[0] not in kinds():
        near = close_to(value.partition(":")[0], [AUTO, *kinds()]) if isinstance(value, str) else ""
        raise ConfigError(
            f"av decoder: hardware={short(value)}: must be None, 'auto' or a kind of device, as in 'cuda', 'cuda:1' or "
            f"'vaapi:/dev/dri/renderD128'{near or '; known are ' + ', '.join(kinds())}"
        )


@attrs.define
class Hardware:
    """Open decoders on a device, and keep the reason if that is not possible.

    Attributes:
        wanted: "auto", a kind of device, or a kind and a device ("cuda:1").
        reason: The reason why the last decoder was not opened on a device, or "".
        device: The kind of device of the last decoder, or "".
    """

    wanted: str
    reason: str = ""
    device: str = ""
    _is_reported: bool = False

    def check(self) -> str:
        """Return the reason if this build of libav lacks the wanted device, else ""."""
        built = hwaccel.hwdevices_available()
        kind = self.wanted.partition(":")[0]
        if not built or kind not in (AUTO, *built):
            return f"this libav is built for {', '.join(built) or 'no device'}"
        return ""

    def open(self, name: str) -> VideoCodecContext | None:
        """Return a decoder of this codec on a device, not open yet; or None, with `reason` set."""
        self.reason, self.device = self.check(), ""
        if self.reason:
            return None
        kind, _, device = self.wanted.partition(":")
        try:
            codec = av.Codec(name, "r")
        except ValueError as error:
            self.reason = str(error)
            return None
        offered = [config.device_type.name for config in codec.hardware_configs if config.is_supported]
        tried = [each for each in offered if kind in (AUTO, each)]
        if not tried:
            self.reason = f"{name} is decoded on {', '.join(dict.fromkeys(offered)) or 'no device'} by this libav"
            return None
        reasons = []
        for each in dict.fromkeys(tried):
            accelerator = hwaccel.HWAccel(each, device=device or None, allow_software_fallback=True)
            try:
                context = av.CodecContext.create(codec, "r", hwaccel=accelerator)
            except (av.FFmpegError, ValueError) as error:  # the driver or the device is missing
                reasons.append(f"{each}: {getattr(error, 'strerror', None) or error}")
                continue
            if isinstance(context, VideoCodecContext) and context.is_hwaccel:
                self.device = each
                return context
            reasons.append(f"{each}: it does not decode {name}")
        self.reason = f"no device answers ({'; '.join(reasons)})"
        return None

    def remark(self) -> str:
        """Return a sentence on the fallback to software decoding; "" if there was none."""
        return f"hardware={self.wanted!r}: {self.reason}; decoding in software" if self.reason else ""

    def report(self, where: str) -> None:
        """Log the fallback once."""
        if self.reason and not self._is_reported:
            self._is_reported = True
            _log.warning("av decoder, %s: %s", where, self.remark())
