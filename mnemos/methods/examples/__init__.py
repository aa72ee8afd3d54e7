"""What is read: values of Plan.examples."""
