"""Built-in components, offered like those of any plugin."""
