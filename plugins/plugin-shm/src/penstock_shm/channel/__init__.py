"""Channels: records from one process to others through shared memory."""
