"""The threads of a run: opening, reading sources, leading records through steps, checkpoints."""
