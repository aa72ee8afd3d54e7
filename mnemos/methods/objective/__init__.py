"""What is minimised: values of Plan.objective."""
