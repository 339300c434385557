"""One component at work: decode, process, store; error policies and dead letters."""
