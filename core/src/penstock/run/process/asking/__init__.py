"""The side of the run: proxies for components that work in another process."""
