"""What every pipeline needs, offered like the components of any other plugin."""
