"""The account of a run and its report: values that know nothing of the run that makes them."""
