"""Channels that carry records from one process to others through shared memory."""
