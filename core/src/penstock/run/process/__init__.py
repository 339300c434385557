"""Components in processes of their own: `asking` is the run's side, `working` the worker process's side."""
