"""Who writes the answer: values of Plan.draw."""
