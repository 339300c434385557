"""Records over zenoh: a store that publishes and a source that subscribes, with receipts between them.

The classes are in `penstock_zenoh.source` and `penstock_zenoh.store`; importing this package imports no zenoh.
"""

__all__: list[str] = []
