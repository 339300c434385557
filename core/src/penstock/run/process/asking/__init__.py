"""The run's side: proxies for components that work in another process."""
