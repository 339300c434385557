"""Composing: nodes and edges, `>>`, pipelines, what is checked before anything opens, graphs as files and pictures."""
