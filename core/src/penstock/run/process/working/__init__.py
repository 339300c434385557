"""The worker process's side: runs a component there and answers the run."""
