"""Names of files for channels of any name."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from urllib.parse import quote

_LONGEST = 120
_CAPITAL = re.compile("[A-Z]")


@lru_cache(maxsize=4096)
def channel_name(channel: str) -> str:
    """Return a name of ASCII letters, digits and "_-%~", unique for each channel, even if case is ignored."""
    name = quote(channel, safe="", errors="surrogatepass").replace(".", "%2E") or "%"
    if len(name) > _LONGEST or _CAPITAL.search(channel):
        digest = hashlib.sha256(channel.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{name[:_LONGEST]}~{digest}"
    return name
