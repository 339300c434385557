"""Links: an edge between two pipelines that is a topic."""
