"""A run: planning into lanes, full edges, errors, checkpoints, the account, the report."""
