"""Where code and SQL that a model wrote are run, and nowhere else; see docs/reward.md for its limits."""
