"""What users of comux call by hand: cameras on topics, batches of frames, results sent back, a config topic."""
