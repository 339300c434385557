"""The old name of `penstock.dead_letters`, for scripts written for version 0.1."""

from __future__ import annotations

from penstock.dead_letters import LOG, read_dead_letters

__all__ = ["LOG", "read_dead_letters"]
