"""Dead letters for those who read them: the public path of what the steps of a run write."""

from __future__ import annotations

from penstock.run.steps.dead_letters import LOG, DeadLetters, read_dead_letters

__all__ = ["LOG", "DeadLetters", "read_dead_letters"]
