"""Components in processes of their own: `asking` is the side of the run, `working` that of the worker process."""
