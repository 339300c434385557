"""The side of the run: what stands for a component that works in another process."""
