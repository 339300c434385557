"""The threads of a run: opening, reading sources, passing records through steps, checkpoints."""
