"""The path by which scripts of version 0.1 import what reads dead letters; it is in `penstock.dead_letters`."""

from __future__ import annotations

from penstock.dead_letters import LOG, read_dead_letters

__all__ = ["LOG", "read_dead_letters"]
