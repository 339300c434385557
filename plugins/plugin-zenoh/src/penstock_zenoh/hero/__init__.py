"""HEROs: a source of their events, a store that emits events, and the archivers of herostools."""
