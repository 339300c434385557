"""Objects that several processes share, by name and id."""
