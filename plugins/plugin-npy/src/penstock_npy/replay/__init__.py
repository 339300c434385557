"""The source `npy-files`: a directory of .npy, .npz, .json and .jsonl files again, as records."""
