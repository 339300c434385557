"""Where records wait: edges, inboxes, what a full edge does, and its files."""
