"""Who executes the steps of a run."""
