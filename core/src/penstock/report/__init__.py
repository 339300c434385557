"""The account of a run and its report: values that do not depend on the run that makes them."""
