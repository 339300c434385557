"""Planning: how a graph becomes lanes and edges, and how it is changed while it runs."""
