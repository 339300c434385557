"""The name of this program, as other processes name it in messages."""

from __future__ import annotations

import os
import sys


def title() -> str:
    """Return the name of this program, for messages in other processes."""
    return os.path.basename(sys.argv[0] or sys.executable) or "python"
