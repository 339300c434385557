"""The side of the worker process: what runs a component there and answers the run."""
