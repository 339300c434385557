"""The API of comux: cameras on topics, batches of frames, results sent back, a config topic."""
