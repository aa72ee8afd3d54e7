"""Which directions are allowed: values of Plan.gradient."""
