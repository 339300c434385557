"""Recording: stores that write records as videos and images."""
