"""One component at work: decode, process, store; what happens to a record that fails."""
