"""Recording: videos and images made of records."""
