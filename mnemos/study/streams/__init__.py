"""Studies of streams: arms are agents, orders are seeds; with the run directory and report of a training."""
