"""Kafka: a source of records from topics, and a store that produces them. Importing this package imports no client."""
