"""What may move: values of Plan.trainable."""
