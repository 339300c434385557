"""HEROs: their events as records, records as their events, and archivers of the names that their users know."""
