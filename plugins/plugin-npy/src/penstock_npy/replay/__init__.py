"""The source `npy-files`: a directory of .npy, .npz, .json and .jsonl files as records."""
