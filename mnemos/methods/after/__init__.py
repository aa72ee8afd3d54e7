"""Arithmetic on the weights once training is over: values of Plan.after."""
