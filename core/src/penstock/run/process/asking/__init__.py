"""The run's side: proxies for components in worker processes."""
