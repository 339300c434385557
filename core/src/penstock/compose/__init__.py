"""Composing: nodes, edges and `>>`, pipelines, checks before anything opens, graphs as files and drawings."""
